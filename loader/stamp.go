package loader

import (
	"fmt"
	"os"
	"time"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// maxClockError is how far the NIC's clock may be from the system's to be taken for
// UTC. TAI, which PTP distributes, has been more than 10 s ahead since 1972.
const maxClockError = time.Second

// Stamp has the NIC note when each frame arrives. A program asks for it with
// Config.NICTime. Close puts back how it was.
//
// What the NIC's clock says counts as UTC: it is the operator who sets it, with
// ptp4l or phc2sys. Stamp refuses a clock that cannot be UTC because it is more
// than a second from the system's; it does not see a clock that is set wrong later.
func (n *NIC) Stamp() error {
	name := n.Link.Attrs().Name
	clock, err := stampingClock(name)
	if err != nil {
		return err
	}
	ahead, err := clockError(clock)
	if err != nil {
		return err
	}
	if ahead.Abs() > maxClockError {
		return fmt.Errorf("the clock of %s, %s, is %s ahead of the system's and cannot be UTC: set it: phc2sys -s CLOCK_REALTIME -c %s -O 0", name, clock, ahead.Round(time.Millisecond), name)
	}
	return n.stampAll()
}

func (n *NIC) stampAll() error {
	name := n.Link.Attrs().Name
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket to have %s stamp packets: %w", name, err)
	}
	defer unix.Close(fd)
	before, err := unix.IoctlGetHwTstamp(fd, name)
	if err != nil {
		return fmt.Errorf("asking which packets %s stamps: %w", name, err)
	}
	if before.Rx_filter == unix.HWTSTAMP_FILTER_ALL {
		return nil
	}
	all := *before
	all.Rx_filter = unix.HWTSTAMP_FILTER_ALL
	if err := unix.IoctlSetHwTstamp(fd, name, &all); err != nil {
		return fmt.Errorf("having %s stamp every packet: %w", name, err)
	}
	n.stamping = before
	return nil
}

func (n *NIC) unstamp() error {
	name := n.Link.Attrs().Name
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket to have %s stamp as before: %w", name, err)
	}
	defer unix.Close(fd)
	before := n.stamping
	n.stamping = nil
	if err := unix.IoctlSetHwTstamp(fd, name, before); err != nil {
		return fmt.Errorf("having %s stamp as before: %w", name, err)
	}
	return nil
}

// stampingClock is the device of the clock by which the interface can stamp every
// packet that it receives.
func stampingClock(name string) (string, error) {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return "", fmt.Errorf("opening the ethtool socket: %w", err)
	}
	defer e.Close()
	const needed = unix.SOF_TIMESTAMPING_RX_HARDWARE | unix.SOF_TIMESTAMPING_RAW_HARDWARE
	can, err := e.GetTimestampingInformation(name)
	if err != nil {
		return "", fmt.Errorf("asking %s for its clock: %w", name, err)
	}
	if can.PhcIndex < 0 || can.SoTimestamping&needed != needed || can.RxFilters&(1<<unix.HWTSTAMP_FILTER_ALL) == 0 {
		return "", fmt.Errorf("%s has no clock that stamps every packet: ethtool -T %s says what it has", name, name)
	}
	return fmt.Sprintf("/dev/ptp%d", can.PhcIndex), nil
}

// clockError is how far the clock of a device is ahead of the system's.
func clockError(device string) (time.Duration, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, fmt.Errorf("opening the clock: %w", err)
	}
	defer f.Close()
	id := int32(^f.Fd()<<3 | 3) // clock_getres(2): FD_TO_CLOCKID
	var its unix.Timespec
	if err := unix.ClockGettime(id, &its); err != nil {
		return 0, fmt.Errorf("reading the clock %s: %w", device, err)
	}
	return time.Duration(its.Nano() - time.Now().UnixNano()), nil
}
