package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/store"
)

// BenchmarkMemory is the cost of a packet on its way to a file in memory, the
// writing included: a worker writes inline. Fresh files have their pages made,
// a ring of files has them, and beside it stands what no file could do without:
// the packets appended to a chunk, and the chunk copied.
func BenchmarkMemory(b *testing.B) {
	for _, size := range []int{64, 512, 1400} {
		b.Run(fmt.Sprintf("%d/copy", size), func(b *testing.B) { copies(b, size) })
		b.Run(fmt.Sprintf("%d/fresh", size), func(b *testing.B) { run(b, "/dev/shm", size, 0) })
		b.Run(fmt.Sprintf("%d/ring", size), func(b *testing.B) { run(b, "/dev/shm", size, 2) })
	}
}

// BenchmarkDisk is how fast packets get to a disk, and beside it direct writes
// of the same number of bytes with nothing around them. UNSPAN_BENCH_DIR names
// a folder on the disk to measure.
func BenchmarkDisk(b *testing.B) {
	dir := os.Getenv("UNSPAN_BENCH_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	for _, size := range []int{64, 512, 1400} {
		for range 3 { // one after the other: disks change their minds
			b.Run(fmt.Sprintf("%d/bare", size), func(b *testing.B) { bare(b, dir, b.N*len(pcapng.AppendPacket(nil, 0, 0, 0, 0, 0, make([]byte, size)))) })
			b.Run(fmt.Sprintf("%d/store", size), func(b *testing.B) { run(b, dir, size, 0) })
		}
	}
}

// BenchmarkMerge is the cost of a packet of two lanes in one file in memory, all
// goroutines together.
func BenchmarkMerge(b *testing.B) {
	for _, size := range []int{64, 1400} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			dir, err := os.MkdirTemp("/dev/shm", "bench")
			if err != nil {
				b.Skip(err)
			}
			defer os.RemoveAll(dir)
			cfg := store.Default()
			cfg.Path, cfg.Lanes = filepath.Join(dir, "cap.pcapng"), 2
			cfg.RotateSize, cfg.Keep = ringFile, 2
			s, err := store.Open(cfg)
			if err != nil {
				b.Fatal(err)
			}
			done := make(chan error)
			go func() { done <- s.Run() }()
			id := s.AddInterface(pcapng.Interface{Name: "a"})
			data := make([]byte, size)
			const burst = 64
			n := 0
			send := func() {
				for lane := range cfg.Lanes {
					l := s.Lane(lane)
					for i := range burst {
						l.Append(id, uint64((n+i)*cfg.Lanes+lane), uint32(size), 0, 0, data)
					}
					l.Tick(0)
				}
				n += burst
				for uint64(n*cfg.Lanes)-s.Counters().Written > uint64(cfg.Backlog/2/size) {
					time.Sleep(50 * time.Microsecond)
				}
			}
			for s.Files() <= 3 {
				send()
			}
			begin := n
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			before := cpuTime(b)
			for n-begin < b.N/cfg.Lanes {
				send()
			}
			for lane := range cfg.Lanes {
				s.Lane(lane).Close()
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
			if c := s.Counters(); c.Written != uint64(n*cfg.Lanes) {
				b.Errorf("counters %+v of %d", c, n*cfg.Lanes)
			}
		})
	}
}

const (
	ringFile = 256 << 20
	maxFile  = 4 << 30
)

func run(b *testing.B, parent string, size, keep int) {
	dir, err := os.MkdirTemp(parent, "bench")
	if err != nil {
		b.Skip(err)
	}
	defer os.RemoveAll(dir)
	cfg := store.Default()
	cfg.Path = filepath.Join(dir, "cap.pcapng")
	if keep > 0 {
		cfg.RotateSize, cfg.Keep = ringFile, keep
	}
	s, err := store.Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Run() }()
	lane := s.Lane(0)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	data := make([]byte, size)
	n := 0
	send := func() {
		lane.Append(id, uint64(n), uint32(size), 0, 0, data)
		if n++; n%64 == 0 { // what waits is bounded, so that none is lost
			for uint64(n)-lane.Counters().Written > uint64(cfg.Backlog/2/size) {
				time.Sleep(50 * time.Microsecond)
			}
		}
	}
	// Until memory is there, the ring has come round, and so much is waiting as
	// will wait at the end.
	for s.Size() < 4*uint64(cfg.Backlog) || keep > 0 && s.Files() <= uint64(keep)+1 {
		send()
	}
	if keep == 0 && b.N > maxFile/size {
		b.Skipf("%d packets are more than a file may have here", b.N)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	for range b.N {
		send()
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	lane.Close()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if c := s.Counters(); c.Written != uint64(n) {
		b.Errorf("counters %+v of %d", c, n)
	}
}

// copies appends packets to a chunk and copies that to plain memory.
func copies(b *testing.B, size int) {
	data, chunk, memory := make([]byte, size), make([]byte, 0, 256<<10), make([]byte, 2*ringFile)
	for i := range memory {
		memory[i] = 1
	}
	at := 0
	b.SetBytes(int64(size))
	b.ResetTimer()
	before := cpuTime(b)
	for n := range b.N {
		if len(chunk)+size+pcapng.PacketOverhead > cap(chunk) {
			if len(memory)-at < len(chunk) {
				at = 0
			}
			at += copy(memory[at:], chunk)
			chunk = chunk[:0]
		}
		chunk = pcapng.AppendPacket(chunk, 0, uint64(n), uint32(size), 0, 0, data)
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// bare writes n bytes directly, as many at a time as a store does.
func bare(b *testing.B, dir string, n int) {
	path := filepath.Join(dir, "bare")
	fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_WRONLY|syscall.O_DIRECT|syscall.O_TRUNC, 0o600)
	if err != nil {
		b.Skip(err)
	}
	defer os.Remove(path)
	defer syscall.Close(fd)
	const size = 4 << 20
	buf := make([]byte, size+4096)
	b.SetBytes(int64(n/b.N) - 32) // of the packets, as run has it
	buf = buf[-uintptr(unsafe.Pointer(&buf[0]))&4095:][:size]
	b.ResetTimer()
	before := cpuTime(b)
	for at := 0; at < n; at += size {
		if _, err := syscall.Pwrite(fd, buf, int64(at)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpuTime is what the process has used, of all cores.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
