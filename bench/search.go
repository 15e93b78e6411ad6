package main

// search finds the highest rate between low and high that passes, to a precision
// given as a share of it. low is taken to pass without a try. A rate that fails
// gets a second chance: on a machine that also does other things one packet lost
// to a neighbour proves nothing. Below a fiftieth of high it gives up: 0.
func search(low, high, precision float64, passes func(rate float64) (bool, error)) (float64, error) {
	least := high / 50
	for high-low > precision*high {
		if high < least {
			return 0, nil
		}
		middle := (low + high) / 2
		ok, err := passes(middle)
		if err == nil && !ok {
			ok, err = passes(middle)
		}
		if err != nil {
			return 0, err
		}
		if ok {
			low = middle
		} else {
			high = middle
		}
	}
	return low, nil
}
