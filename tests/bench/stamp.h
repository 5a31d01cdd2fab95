/* Given to the compiler with -include: the fake notes in $FAKE_STAMP when it writes its first byte (nanoseconds, UTC). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static void stamp(void) {
  struct timespec now;
  const char *path = getenv("FAKE_STAMP");
  int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
  if (fd < 0) return;
  clock_gettime(CLOCK_REALTIME, &now);
  dprintf(fd, "%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
  close(fd);
}
static ssize_t stamped_write(int fd, const void *data, size_t size) {
  static int stamped;
  if (!stamped++) stamp();
  return write(fd, data, size);
}
#define write stamped_write
