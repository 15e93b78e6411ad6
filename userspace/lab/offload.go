package lab

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offloads are the ethtool commands whose feature changes frames between
// sending and receiving: checksums left open, segments joined or split, tags
// moved out of the frame.
var offloads = []struct {
	name    string
	command uint32
}{
	{"tx-checksumming", unix.ETHTOOL_STXCSUM},
	{"rx-checksumming", unix.ETHTOOL_SRXCSUM},
	{"tcp-segmentation-offload", unix.ETHTOOL_STSO},
	{"generic-segmentation-offload", unix.ETHTOOL_SGSO},
	{"generic-receive-offload", unix.ETHTOOL_SGRO},
	{"scatter-gather", unix.ETHTOOL_SSG},
	{"large receive and VLAN offload", unix.ETHTOOL_SFLAGS},
}

// disableOffloads switches off every one of offloads that the device has.
func disableOffloads(device string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("switching offloads off on %s: %w", device, err)
	}
	defer unix.Close(fd)
	for _, o := range offloads {
		if err := setOffload(fd, device, o.command, 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("switching %s off on %s: %w", o.name, device, err)
		}
	}
	return nil
}

// setOffload is SIOCETHTOOL with a struct ethtool_value, for which x/sys has no call.
func setOffload(fd int, device string, command, value uint32) error {
	request, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	setting := struct{ command, value uint32 }{command, value}
	data := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&setting)}
	copy(data.name[:], request.Name())
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&data))); errno != 0 {
		return errno
	}
	return nil
}
