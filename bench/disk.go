package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// disk measures how much of what the disk takes the whole way can write.
func (b *bench) disk(ctx context.Context) error {
	directory, err := os.MkdirTemp(b.diskDirectory, "unspan-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	var direct, whole, ratio sample
	for range b.plan.diskRounds {
		most, err := directWrites(filepath.Join(directory, "direct"), b.plan.diskBytes)
		if errors.Is(err, unix.EINVAL) {
			b.report.absent("disk_over_direct", "the file system of "+b.diskDirectory+" takes no direct writes")
			return nil
		}
		if err != nil {
			return err
		}
		got, err := b.wholeToDisk(ctx, directory, most)
		if err != nil {
			return err
		}
		direct, whole, ratio = append(direct, most), append(whole, got), append(ratio, got/most)
	}
	t := table{Title: "To disk", Columns: []string{"writer", "MB/s", "spread"},
		Note: fmt.Sprintf("%d MB by O_DIRECT writes of 4 MiB, then as much by the whole way at 1400 inner bytes, offered at a tenth more than that; until all is on the disk, packet bytes only.", b.plan.diskBytes>>20)}
	t.row("direct writes", fmt.Sprintf("%.0f", direct.median()/1e6), scaled(direct, 1e-6).spread("%.0f"))
	t.row(pipeline, fmt.Sprintf("%.0f", whole.median()/1e6), scaled(whole, 1e-6).spread("%.0f"))
	b.report.add(t)
	b.report.figure("disk_over_direct", ratio.median())
	return nil
}

// wholeToDisk is how many bytes of packets the whole way writes a second.
func (b *bench) wholeToDisk(ctx context.Context, parent string, most float64) (float64, error) {
	directory, err := os.MkdirTemp(parent, "whole-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(directory)
	t := b.pipeline()
	t.Directory, t.Disk = directory, true
	o := offer{Load: load1400, Rate: 1.1 * most / load1400.mean(), Window: time.Duration(float64(b.plan.diskBytes) / most * 1e9)}
	out, err := b.rig.measure(ctx, t, o)
	if err != nil {
		return 0, err
	}
	return float64(out.Whole.Written) / (float64(out.Whole.Time-out.Start) / 1e9), nil
}

// directWrites is how many bytes a second the disk takes from one writer.
func directWrites(path string, size int) (float64, error) {
	const chunk = 4 << 20
	memory, err := unix.Mmap(-1, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(memory)
	for i := range memory {
		memory[i] = byte(i)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|unix.O_DIRECT, 0o600)
	if err != nil {
		return 0, err
	}
	defer os.Remove(path)
	start := time.Now()
	for at := 0; at < size; at += chunk {
		if _, err := f.Write(memory); err != nil {
			return 0, errors.Join(fmt.Errorf("writing directly: %w", err), f.Close())
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	return float64(size) / time.Since(start).Seconds(), nil
}
