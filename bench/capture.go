package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// capture is what the peers write with: pcapgo behind a large buffer, files of
// the size that the whole way rotates at, and as many of them kept.
type capture struct {
	directory string
	files     []string
	file      *os.File
	buffer    *bufio.Writer
	packets   *pcapgo.Writer
	size      int
}

func (c *capture) write(at time.Time, data []byte) error {
	if c.file == nil || c.size >= rotateSize {
		if err := c.rotate(); err != nil {
			return err
		}
	}
	return c.put(at, data)
}

func (c *capture) put(at time.Time, data []byte) error {
	const packetHeader = 16
	c.size += packetHeader + len(data)
	return c.packets.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(data), Length: len(data)}, data)
}

func (c *capture) rotate() error {
	if err := c.close(); err != nil {
		return err
	}
	if len(c.files) == keepFiles {
		if err := os.Remove(c.files[0]); err != nil {
			return err
		}
		c.files = c.files[1:]
	}
	path := filepath.Join(c.directory, fmt.Sprintf("peer-%d.pcap", time.Now().UnixNano()))
	c.files = append(c.files, path)
	return c.open(path)
}

func (c *capture) open(path string) (err error) {
	if c.file, err = os.Create(path); err != nil {
		return err
	}
	c.buffer = bufio.NewWriterSize(c.file, 1<<20)
	c.packets, c.size = pcapgo.NewWriterNanos(c.buffer), 0
	return c.packets.WriteFileHeader(65535, layers.LinkTypeEthernet)
}

func (c *capture) close() error {
	if c.file == nil {
		return nil
	}
	err := errors.Join(c.buffer.Flush(), c.file.Close())
	c.file = nil
	return err
}
