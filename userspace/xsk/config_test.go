package xsk

import (
	"strings"
	"testing"
	"time"
)

func TestConfigComplete(t *testing.T) {
	tests := []struct {
		name                       string
		sockets, frames            int
		wantRing, wantMin, wantMax int
		ringSize, circMin, circMax int
	}{
		{name: "one socket", sockets: 1, frames: 16384, wantRing: 16384, wantMin: 1024, wantMax: 16384},
		{name: "four sockets", sockets: 4, frames: 16384, wantRing: 4096, wantMin: 4096, wantMax: 16384},
		{name: "three sockets", sockets: 3, frames: 16384, wantRing: 4096, wantMin: 3072, wantMax: 16384},
		{name: "few frames", sockets: 2, frames: 512, wantRing: 256, wantMin: 512, wantMax: 512},
		{name: "all given", sockets: 2, frames: 4096, ringSize: 64, circMin: 100, circMax: 3000, wantRing: 64, wantMin: 100, wantMax: 3000},
		{name: "max below the usual min", sockets: 1, frames: 4096, circMax: 500, wantRing: 4096, wantMin: 500, wantMax: 500},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := Default()
			cfg.Ifindex = 1
			cfg.Sockets, cfg.Frames = test.sockets, test.frames
			cfg.RingSize, cfg.CirculationMin, cfg.CirculationMax = test.ringSize, test.circMin, test.circMax
			got, err := cfg.complete()
			if err != nil {
				t.Fatal(err)
			}
			if got.RingSize != test.wantRing || got.CirculationMin != test.wantMin || got.CirculationMax != test.wantMax {
				t.Errorf("ring of %d, circulation of %d to %d, want ring of %d, circulation of %d to %d",
					got.RingSize, got.CirculationMin, got.CirculationMax, test.wantRing, test.wantMin, test.wantMax)
			}
		})
	}
}

func TestConfigErrors(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		want   string // "" is no error
	}{
		{"the default on an interface", func(c *Config) {}, ""},
		{"no interface", func(c *Config) { c.Ifindex = 0 }, "Ifindex 0"},
		{"negative queue", func(c *Config) { c.Queue = -1 }, "Queue -1"},
		{"no socket", func(c *Config) { c.Sockets = 0 }, "Sockets 0"},
		{"most sockets", func(c *Config) { c.Sockets = 64 }, ""},
		{"too many sockets", func(c *Config) { c.Sockets = 65 }, "Sockets 65"},
		{"fewest frames", func(c *Config) { c.Frames = 64 }, ""},
		{"too few frames", func(c *Config) { c.Frames = 32 }, "Frames 32"},
		{"no power of two of frames", func(c *Config) { c.Frames = 10_000 }, "Frames 10000: must be a power of two"},
		{"too many frames", func(c *Config) { c.Frames = 1 << 23 }, "Frames 8388608"},
		{"frame of 4096", func(c *Config) { c.FrameSize = 4096 }, ""},
		{"frame of 3000", func(c *Config) { c.FrameSize = 3000 }, "FrameSize 3000: must be 2048 or 4096"},
		{"frame of 1024", func(c *Config) { c.FrameSize = 1024 }, "FrameSize 1024"},
		{"ring of 100", func(c *Config) { c.RingSize = 100 }, "RingSize 100"},
		{"ring larger than the memory", func(c *Config) { c.RingSize = 32768 }, "RingSize 32768"},
		{"negative minimum", func(c *Config) { c.CirculationMin = -1 }, "CirculationMin -1"},
		{"minimum above maximum", func(c *Config) { c.CirculationMin, c.CirculationMax = 2000, 1000 }, "CirculationMin 2000"},
		{"maximum above the memory", func(c *Config) { c.CirculationMax = 16385 }, "CirculationMax 16385"},
		{"unknown mode", func(c *Config) { c.Mode = 3 }, "Mode 3"},
		{"negative nap", func(c *Config) { c.Nap = -1 }, "Nap -1"},
		{"nap of a second", func(c *Config) { c.Nap = time.Second }, "Nap 1000000000"},
		{"no naps", func(c *Config) { c.Nap = 0 }, ""},
		{"busy poll too short", func(c *Config) { c.BusyPoll = time.Nanosecond }, "BusyPoll 1:"},
		{"negative budget", func(c *Config) { c.BusyPollBudget = -1 }, "BusyPollBudget -1"},
		{"two at once", func(c *Config) { c.Queue, c.Mode = -1, -1 }, "Queue -1: must not be negative\nMode -1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cfg := Default()
			cfg.Ifindex = 1
			test.change(&cfg)
			_, err := cfg.complete()
			if test.want == "" {
				if err != nil {
					t.Errorf("an error: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestModeString(t *testing.T) {
	for mode, want := range map[Mode]string{Auto: "auto", Copy: "copy", ZeroCopy: "zero-copy", 7: "Mode(7)"} {
		if got := mode.String(); got != want {
			t.Errorf("mode %d is %q, want %q", int(mode), got, want)
		}
	}
}

func TestSplit(t *testing.T) {
	tests := []struct {
		name                   string
		info                   Info
		dropped, misses        uint64
		wantEmpty, wantTooLong uint64
	}{
		{"none", Info{Mode: Copy}, 0, 0, 0, 0},
		{"fill ring empty", Info{Mode: Copy}, 5, 5, 5, 0},
		{"too long", Info{Mode: Copy}, 5, 0, 0, 5},
		{"both", Info{Mode: Copy}, 5, 2, 2, 3},
		{"misses read a moment later", Info{Mode: Copy}, 5, 6, 5, 0},
		{"multi-buffer misses less often than it drops", Info{Mode: Copy, MultiBuffer: true}, 5, 2, 5, 0},
		{"zero-copy misses without a packet", Info{Mode: ZeroCopy}, 0, 9, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			empty, tooLong := split(test.dropped, test.misses, test.info)
			if empty != test.wantEmpty || tooLong != test.wantTooLong {
				t.Errorf("%d fill ring empty and %d too long, want %d and %d", empty, tooLong, test.wantEmpty, test.wantTooLong)
			}
		})
	}
}
