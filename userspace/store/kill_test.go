package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unspan/unspan/pcapng"
	"github.com/unspan/unspan/userspace/store"
)

// TestMain turns the test program into the writer that TestKill kills.
func TestMain(m *testing.M) {
	if path := os.Getenv("STORE_TEST_WRITER"); path != "" {
		if err := writeForever(path, os.Getenv("STORE_TEST_MODE")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writeForever writes as fast as it can and says how far it surely is.
func writeForever(path, mode string) error {
	cfg := store.Default()
	cfg.Path, cfg.Writer = path, store.Writer(mode)
	if strings.HasSuffix(path, "/") {
		cfg.RotateSize, cfg.Keep = 8<<20, 3
	}
	s, err := store.Open(cfg)
	if err != nil {
		return err
	}
	go s.Run()
	lane := s.Lane(0)
	id := s.AddInterface(pcapng.Interface{Name: "a"})
	data := make([]byte, 1000)
	for i := 0; ; i++ {
		for lane.Counters().Backlog > 0 {
			return errors.New("packets lost")
		}
		copy(data, fmt.Sprintf("0/%d.", i))
		lane.Append(id, epoch+uint64(i), 1000, 0, 0, data)
		if i%1000 == 0 {
			written := lane.Counters().Written
			for uint64(i)-written > 10_000 { // keep pace with the writer
				time.Sleep(10 * time.Microsecond)
				written = lane.Counters().Written
			}
			fmt.Println(written)
		}
	}
}

// TestKill kills a writer in the middle of its work, again and again: what was
// written before is there, and the file is whole. Without care it would be cut
// nearly every time, for nearly all of the time is spent in write.
func TestKill(t *testing.T) {
	writers(t, func(t *testing.T, dir string, w store.Writer) {
		for _, path := range []string{"one.pcapng", "many/"} {
			cut := 0
			const kills = 6
			for i := range kills {
				folder := filepath.Join(dir, strconv.Itoa(i))
				if err := os.Mkdir(folder, 0o700); err != nil {
					t.Fatal(err)
				}
				if !kill(t, folder, folder+"/"+path, w, time.Duration(5+3*i)*time.Millisecond) {
					cut++
				}
				if err := os.RemoveAll(folder); err != nil {
					t.Fatal(err)
				}
			}
			// What is shown by two stores can be caught between them.
			if cut > 1 {
				t.Errorf("%s: %d of %d files were cut", path, cut, kills)
			}
		}
	})
}

// kill starts a writer and kills it. It says whether the files are whole, and
// fails if what was written is not there.
func kill(t *testing.T, folder, path string, w store.Writer, after time.Duration) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_TEST_WRITER="+path, "STORE_TEST_MODE="+string(w))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	written := 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			break // killed while it spoke
		}
		if written == 0 && n > 0 {
			time.AfterFunc(after, func() { cmd.Process.Kill() })
		}
		written = n
	}
	cmd.Wait()

	whole := true
	var packets []string
	for _, path := range captures(t, folder) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parse(b)
		if err != io.EOF {
			t.Logf("%s of %d bytes: %v", path, len(b), err)
			whole = false
		}
		packets = append(packets, f.packets...)
	}
	if len(packets) == 0 {
		t.Fatalf("nothing in the files, %d written", written)
	}
	var begin int
	if _, err := fmt.Sscanf(packets[0], "a 0/%d", &begin); err != nil {
		t.Fatal(err)
	}
	if end := begin + len(packets); end < written || !slices.Equal(packets, sequence(0, end)[begin:]) {
		t.Errorf("packets %d to %d, %d were written", begin, end, written)
	}
	if begin > 0 && !strings.Contains(path, "many") {
		t.Errorf("the file begins with packet %d", begin)
	}
	return whole
}

// captures are the files in a folder and those below it.
func captures(t *testing.T, dir string) []string {
	t.Helper()
	return append(files(t, filepath.Join(dir, "many")), slices.DeleteFunc(files(t, dir), func(p string) bool {
		return filepath.Base(p) == "many"
	})...)
}
