// gate.c in Go, profiled by Go itself: the first argument is the profile's file, then work in functions of its own,
// `NAME AMOUNT` by `NAME AMOUNT`; GATE_LOG is told what each took.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"syscall"
	"unsafe"
)

var sink uint64

//go:noinline
func step(x, factor uint64) uint64 {
	for i := 0; i < 90000; i++ {
		x = x*factor + 1442695040888963407
	}
	return x
}

//go:noinline
func alpha(n int) {
	for i := 0; i < n; i++ {
		sink = step(sink, 6364136223846793005)
	}
}

// Does what it does itself.
//
//go:noinline
func beta(n int) {
	x := sink
	for i := 0; i < n*90000; i++ {
		x = x*6364136223846793009 + 1442695040888963407
	}
	sink = x
}

// Of a thread (3) or of the process (2).
func nanos(clock uintptr) int64 {
	var now syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&now)), 0)
	return now.Nano()
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	runtime.LockOSThread()
	profile, err := os.Create(os.Args[1])
	must(err)
	must(pprof.StartCPUProfile(profile))
	line := ""
	for i := 2; i+1 < len(os.Args); i += 2 {
		n, err := strconv.Atoi(os.Args[i+1])
		must(err)
		before := nanos(3)
		switch os.Args[i] {
		case "alpha":
			alpha(n)
		case "beta":
			beta(n)
		default:
			os.Exit(2)
		}
		line += fmt.Sprintf("%s %d ", os.Args[i], nanos(3)-before)
	}
	pprof.StopCPUProfile()
	must(profile.Close())
	if name := os.Getenv("GATE_LOG"); name != "" {
		log, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		must(err)
		fmt.Fprintf(log, "%stotal %d\n", line, nanos(2))
		must(log.Close())
	}
}
