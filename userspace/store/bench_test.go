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
// writing included: a worker writes inline. Fresh files have their pages made;
// a ring of files has them.
func BenchmarkMemory(b *testing.B) {
	for _, size := range []int{64, 512, 1400} {
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
			b.Run(fmt.Sprintf("%d/bare", size), func(b *testing.B) { bare(b, dir, b.N*(size+pcapng.PacketOverhead)) })
			b.Run(fmt.Sprintf("%d/store", size), func(b *testing.B) { run(b, dir, size, 0) })
		}
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
	for keep > 0 && s.Files() <= uint64(keep)+1 {
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
	lane.Close()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	if c := s.Counters(); c.Written != uint64(n) {
		b.Errorf("counters %+v of %d", c, n)
	}
}

// bare writes n bytes directly, a MiB at a time.
func bare(b *testing.B, dir string, n int) {
	path := filepath.Join(dir, "bare")
	fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_WRONLY|syscall.O_DIRECT|syscall.O_TRUNC, 0o600)
	if err != nil {
		b.Skip(err)
	}
	defer os.Remove(path)
	defer syscall.Close(fd)
	const size = 1 << 20
	buf := make([]byte, size+4096)
	buf = buf[-uintptr(unsafe.Pointer(&buf[0]))&4095:][:size]
	b.ResetTimer()
	before := cpuTime(b)
	for at := 0; at < n; at += size {
		if _, err := syscall.Pwrite(fd, buf, int64(at)); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(n / b.N))
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
