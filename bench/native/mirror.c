/* What the load generator is measured against alone: a server that does next to nothing.
 *
 *   mirror echo               sends back what it receives
 *   mirror flood FILE         sends the file repeatedly to every client
 *
 * Prints its port and serves until it is ended.
 */
#include "net.h"

static char buffer[READ_BYTES];

static int listen_anywhere(void) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&in, size) || listen(fd, 128)) die("listen");
    if (getsockname(fd, (struct sockaddr *)&in, &size)) die("getsockname");
    printf("port=%d\n", ntohs(in.sin_port));
    fflush(stdout);
    return fd;
}

static int greet(int listener) {
    int one = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0) die("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void echo(int listener) {
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN, .data.fd = listener};
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                event.data.fd = greet(listener);
                epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
                continue;
            }
            ssize_t got = read(fd, buffer, sizeof buffer);
            if (got > 0) send_all(fd, buffer, (size_t)got);
            else close(fd);
        }
    }
}

int main(int argc, char **argv) {
    int flooding = argc == 3 && !strcmp(argv[1], "flood");
    if (!flooding && !(argc == 2 && !strcmp(argv[1], "echo"))) {
        fprintf(stderr, "usage: mirror echo | mirror flood FILE\n");
        return 2;
    }
    int listener = listen_anywhere();
    if (!flooding) echo(listener);
    struct text batch = read_file(argv[2]);
    int fd = greet(listener);
    for (;;) send_all(fd, batch.bytes, batch.size);
}
