// SPDX-License-Identifier: MIT

// fanserver DIR
//
// What fanout.c compares with: a net/http server that writes a growing file itself and tells its
// readers in the process, so that no other program stands between the two.
//
// POST /NAME?do=open creates the file and writes the first records, do=write the rest. GET follows
// it: with a declared size by Content-Length and sendfile(2), otherwise in chunks. Prints its port.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const clockMonotonic = 1

func now() uint64 {
	var ts syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return uint64(ts.Nano())
}

// growing is one file and those who wait for it.
type growing struct {
	path     string
	declared int64 // -1: not
	out      *os.File

	mu      sync.RWMutex
	size    int64
	done    bool
	changed chan struct{} // closed at the next change
}

func (g *growing) state() (int64, bool, chan struct{}) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.size, g.done, g.changed
}

func (g *growing) change(size int64, done bool) {
	g.mu.Lock()
	g.size, g.done = size, done
	close(g.changed)
	g.changed = make(chan struct{})
	g.mu.Unlock()
}

func (g *growing) write(record []byte, count int, hz int) error {
	start := time.Now()
	for i := 0; i < count; i++ {
		if hz > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(hz))))
		}
		binary.LittleEndian.PutUint64(record, now())
		if _, err := g.out.Write(record); err != nil {
			return err
		}
		g.change(g.size+int64(len(record)), false)
	}
	return nil
}

func (g *growing) follow(w http.ResponseWriter, r *http.Request) error {
	file, err := os.Open(g.path)
	if err != nil {
		return err
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	if g.declared >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(g.declared, 10))
	}
	buf := make([]byte, 32768)
	for at := int64(0); ; {
		size, done, changed := g.state()
		if at == size {
			if done {
				return nil
			}
			select {
			case <-changed:
			case <-r.Context().Done():
				return nil
			}
			continue
		}
		if g.declared >= 0 { // io.Copy of an *os.File to a plain answer is sendfile
			_, err = io.CopyN(w, file, size-at)
		} else {
			_, err = io.CopyBuffer(chunks{w}, io.LimitReader(file, size-at), buf)
			w.(http.Flusher).Flush()
		}
		if err != nil {
			return err
		}
		at = size
	}
}

// chunks hides that an answer can read from a file, so that CopyBuffer uses its buffer.
type chunks struct{ io.Writer }

type server struct {
	dir   string
	mu    sync.Mutex
	files map[string]*growing
}

func (s *server) open(r *http.Request, records, size int) (*growing, error) {
	g := &growing{path: filepath.Join(s.dir, filepath.Base(r.URL.Path)), declared: -1,
		changed: make(chan struct{})}
	if r.FormValue("declared") == "1" {
		g.declared = int64(records) * int64(size)
	}
	var err error
	g.out, err = os.Create(g.path)
	s.mu.Lock()
	s.files[r.URL.Path] = g
	s.mu.Unlock()
	return g, err
}

func (s *server) post(g *growing, r *http.Request) error {
	records, _ := strconv.Atoi(r.FormValue("records"))
	size, _ := strconv.Atoi(r.FormValue("size"))
	hz, _ := strconv.Atoi(r.FormValue("hz"))
	ahead, _ := strconv.Atoi(r.FormValue("ahead"))
	record := make([]byte, size)
	if r.FormValue("do") == "open" {
		g, err := s.open(r, records, size)
		if err != nil {
			return err
		}
		return g.write(record, ahead, 0)
	}
	err := g.write(record, records-ahead, hz)
	g.change(g.size, true)
	g.out.Close()
	return err
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	g := s.files[r.URL.Path]
	s.mu.Unlock()
	var err error
	if r.Method == "POST" {
		err = s.post(g, r)
	} else if g == nil {
		http.NotFound(w, r)
	} else {
		err = g.follow(w, r)
	}
	if err != nil {
		log.Print(err)
		panic(http.ErrAbortHandler)
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.Serve(listener, &server{dir: os.Args[1], files: map[string]*growing{}}))
}
