package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

const (
	maxLoss = 1e-5 // 0.001 %: what counts as lossless

	confirmAttempts = 8
	confirmStep     = 0.95
)

// peers are what people use today.
func (b *bench) peers() []task {
	all := []task{{Receiver: parserPeer}, {Receiver: stackPeer}, {Receiver: newPacketPeer}, {Receiver: rawPeer}, {Receiver: devicePeer}, {Receiver: tcpdumpPeer}, {Receiver: dumpcapPeer}, {Receiver: suricataPeer}}
	var there []task
	for _, t := range all {
		t.Directory = b.rig.directory
		if how, ok := tools[t.Receiver]; ok {
			if _, err := exec.LookPath(how.program); err != nil {
				b.report.absent(t.Receiver, how.program+" is not installed: scripts/peers installs it")
				continue
			}
		}
		if t.Receiver == devicePeer {
			if err := b.rig.tryERSPAN(); err != nil {
				b.report.absent(t.Receiver, err.Error()+": a kernel with CONFIG_NET_IPGRE has it, perhaps as a module: modprobe ip_gre")
				continue
			}
		}
		there = append(there, t)
	}
	return there
}

// lossless finds for the whole way and its peers the rate at which they still
// lose nothing, and what a packet costs there.
func (b *bench) lossless(ctx context.Context) error {
	t := table{
		Title:   "Without loss",
		Columns: []string{"inner frames", "receiver", "Mpps", "spread", "Gbit/s inner", "lost", "CPU s per million", "of it softirq", "memory MB", "written MB"},
		Note:    "Highest rate at which less than 0.001 % is lost, by binary search to a few percent, that is also kept for a longer run; median of the rounds, and the rest at that rate. CPU seconds are those of the receiver and of softirq on the CPU that receives, not those of the generator. Behind packet sockets a traffic control program ends the packets, where it is not said otherwise, so that the host's answers to GRE are not charged to them.",
	}
	picture := chart{Name: "lossless", Title: "Highest rate without loss", Unit: "Mpps"}
	for _, l := range b.plan.lossless {
		if err := b.losslessOf(ctx, l, &t, &picture); err != nil {
			return err
		}
	}
	b.report.add(t)
	b.report.draw(picture)
	return nil
}

// best is what a receiver does at its best.
type best struct {
	rates sample
	cost  sample // CPU seconds per million packets
	last  outcome
}

func (b *bench) losslessOf(ctx context.Context, l load, t *table, picture *chart) error {
	receivers := b.wanted(append([]task{b.pipeline()}, b.peers()...))
	found := map[string]*best{}
	for round := range b.plan.searches {
		for _, r := range receivers {
			if _, ok := tools[r.Receiver]; (ok || r.Receiver == stackPeer) && round > 0 {
				continue // no figure is of them
			}
			if found[r.Receiver] == nil {
				found[r.Receiver] = &best{}
			}
			if err := b.searchRate(ctx, r, l, found[r.Receiver]); err != nil {
				return err
			}
		}
	}
	for _, r := range receivers {
		f := found[r.Receiver]
		if len(f.rates) == 0 {
			b.report.absent(r.Receiver+", "+l.Title, "no rate was found at which it lost nothing")
			continue
		}
		rate := f.rates.median()
		picture.add(l.Title, r.Receiver, rate/1e6)
		t.row(l.Title, r.Receiver, mega(rate), scaled(f.rates, 1e-6).spread("%.2f"),
			fmt.Sprintf("%.1f", rate*l.mean()*8/1e9),
			fmt.Sprint(f.last.Sent.Frames-min(f.last.Sent.Frames, f.last.Whole.Frames)),
			fmt.Sprintf("%.2f", f.cost.median()),
			fmt.Sprintf("%.0f %%", 100*f.last.Softirq.Seconds()/max(f.last.CPU.Seconds(), 1e-9)),
			fmt.Sprintf("%.0f", float64(f.last.Memory)/1e6),
			fmt.Sprintf("%.0f", float64(f.last.Whole.Written)/1e6))
	}
	b.compare(l, found)
	return nil
}

// compare makes the figures of the whole way against its peers.
func (b *bench) compare(l load, found map[string]*best) {
	whole := found[pipeline]
	if whole == nil {
		return
	}
	switch l.Name {
	case "64":
		b.report.figure("mpps_lossless_64", whole.rates.median()/1e6)
	case "1400":
		b.report.figure("gbit_lossless_1400", whole.rates.median()*l.mean()*8/1e9)
	}
	for peer, name := range map[string]string{parserPeer: "userspace", newPacketPeer: "newpacket", rawPeer: "rawsocket"} {
		if of := found[peer]; of != nil {
			if v := of.rates.median(); v > 0 {
				b.report.figure("lossless_vs_"+name+"_"+l.Name, whole.rates.median()/v)
			}
			if v := of.cost.median(); v > 0 {
				b.report.figure("cpu_vs_"+name+"_"+l.Name, whole.cost.median()/v)
			}
		}
	}
}

// searchRate finds the rate of one receiver. In later rounds it begins near
// where it was.
func (b *bench) searchRate(ctx context.Context, r task, l load, f *best) error {
	try := func(rate float64, window time.Duration) (outcome, error) {
		return b.rig.measure(ctx, r, offer{Load: l, Rate: rate, Window: window})
	}
	unbounded, err := try(0, b.plan.trial)
	if err != nil {
		return err
	}
	offered := float64(unbounded.Sent.Frames) / unbounded.Sent.Elapsed.Seconds()
	rate := offered // more than the generator has nobody can be offered
	if unbounded.loss() > maxLoss {
		low, high := 0.0, offered
		if len(f.rates) > 0 {
			low, high = 0.8*f.rates.median(), min(offered, 1.25*f.rates.median())
		}
		rate, err = search(low, high, b.plan.precision, func(rate float64) (bool, error) {
			out, err := try(rate, b.plan.trial)
			return out.loss() <= maxLoss, err
		})
		if err != nil || rate == 0 {
			return err
		}
	} else {
		rate = 0
	}
	// What holds for a moment must hold for longer.
	last, err := try(rate, b.plan.confirm)
	for attempt := 0; err == nil && last.loss() > maxLoss && attempt < confirmAttempts; attempt++ {
		if rate == 0 {
			rate = offered
		}
		rate *= confirmStep
		last, err = try(rate, b.plan.confirm)
	}
	if err != nil || last.loss() > maxLoss {
		return err
	}
	if rate == 0 {
		rate = float64(last.Sent.Frames) / last.Sent.Elapsed.Seconds()
	}
	f.rates = append(f.rates, rate)
	f.cost = append(f.cost, last.per(last.CPU)/1e3)
	f.last = last
	return nil
}
