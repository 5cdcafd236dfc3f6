/* Loaded into a program, it has the wall clock set back by five minutes, three seconds after the start. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static time_t began;

static time_t monotonic(void) {
  struct timespec now;
  syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  return now.tv_sec;
}

__attribute__((constructor)) static void begin(void) { began = monotonic(); }

int clock_gettime(clockid_t clock, struct timespec *time) {
  int failed = (int)syscall(SYS_clock_gettime, clock, time);
  if (!failed && clock == CLOCK_REALTIME && monotonic() >= began + 3) time->tv_sec -= 300;
  return failed;
}
