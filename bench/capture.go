package main

import (
	"bufio"
	"errors"
	"os"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// capture is what the peers write with: pcapgo behind a large buffer, one file.
// Taking old files away while packets come would stall them; the rig does it when
// they have ended.
type capture struct {
	file    *os.File
	buffer  *bufio.Writer
	packets *pcapgo.Writer
}

func (c *capture) write(at time.Time, data []byte) error {
	return c.packets.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(data), Length: len(data)}, data)
}

func openCapture(path string) (*capture, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	buffer := bufio.NewWriterSize(f, 1<<20)
	c := &capture{f, buffer, pcapgo.NewWriterNanos(buffer)}
	return c, c.packets.WriteFileHeader(65535, layers.LinkTypeEthernet)
}

func (c *capture) close() error { return errors.Join(c.buffer.Flush(), c.file.Close()) }
