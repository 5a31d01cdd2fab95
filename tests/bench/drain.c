// Many readers of one stream, as cheap as they can be: sends one request on N connections and counts the frames
// ("data: " lines) of each until the server ends them. usage: drain PORT N REQUEST_FILE; prints one JSON line.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#define MARK "\ndata: "
#define LEN 7
struct reader { int fd; long frames; size_t kept; char tail[LEN]; };
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static char buffer[1 << 20];
static long count(struct reader *r, ssize_t got) {  // what is left of the last read stands before this one
    memcpy(buffer + LEN - r->kept, r->tail, r->kept);
    char *at = buffer + LEN - r->kept, *end = buffer + LEN + got; long found = 0;
    for (char *hit; (hit = memmem(at, end - at, MARK, LEN)); at = hit + LEN) found++;
    r->kept = end - at < LEN - 1 ? end - at : LEN - 1;
    memcpy(r->tail, end - r->kept, r->kept);
    return found;
}
int main(int argc, char **argv) {
    int port = atoi(argv[1]), n = atoi(argv[2]), open_ = n; static char request[65536];
    FILE *file = fopen(argv[3], "r"); size_t size = fread(request, 1, sizeof request, file); fclose(file);
    struct reader *all = calloc(n, sizeof *all); int poll = epoll_create1(0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < n; i++) {
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].fd, (struct sockaddr *)&to, sizeof to) || write(all[i].fd, request, size) != (ssize_t)size) { perror("connect"); return 1; }
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event);
    }
    double first = 0, last = 0; long total = 0, bytes = 0, least = 1L << 60, most = 0; struct epoll_event ready[256];
    while (open_) {
        int k = epoll_wait(poll, ready, 256, 60000); if (k <= 0) break;
        for (int j = 0; j < k; j++) {
            struct reader *r = ready[j].data.ptr; ssize_t got = read(r->fd, buffer + LEN, sizeof buffer - LEN);
            if (got <= 0) { close(r->fd); open_--; continue; }
            long found = count(r, got); r->frames += found; total += found; bytes += got;
            if (found && total > 2L * n) { last = now(); if (!first) first = last; }  // the first frames come with the subscription
        }
    }
    for (int i = 0; i < n; i++) { if (all[i].frames < least) least = all[i].frames; if (all[i].frames > most) most = all[i].frames; }
    printf("{\"readers\": %d, \"frames\": %ld, \"least\": %ld, \"most\": %ld, \"bytes\": %ld, \"seconds\": %.3f}\n", n, total, least, most, bytes, last - first);
}
