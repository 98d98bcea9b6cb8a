/* A load generator that is not the bottleneck: one thread, one epoll loop, no parsing.
 *
 *   loadgen sink  ADDRESS [options]   receives and counts
 *   loadgen pump  ADDRESS [options]   sends a batch, waits for its replies, sends the next
 *   loadgen pace  ADDRESS [options]   sends a batch at each tick of a clock that waits for nobody
 *
 * A message is counted by its mark, a byte that stands once in each payload and nowhere else on
 * the wire; a reply likewise by its own. So any protocol will do: what is sent comes ready made in
 * files. With --latencies a sink takes the sixteen hex digits behind the mark for the time at which
 * the message was due (not sent: a sender held up must not hide it), in ns of the monotonic clock;
 * a pump measures how long each batch took to be answered.
 *
 * Options: --connections N, --say FILE --until TEXT (repeated: the opening dialogue),
 * --batch FILE, --mark CHAR, --replies N (marks that answer one batch), --seconds S,
 * --rate BATCHES_PER_SECOND, --latencies FILE.
 *
 * Prints "ready", then waits for a line on the standard input. A sink answers each line "count"
 * with its counters and ends at the end of the input; the others run and print their counters.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { STEPS_MAX = 8, READ_BYTES = 1 << 18, EVENTS = 256, STAMP = 16, SAMPLES_MAX = 20000000 };

struct text { char *bytes; size_t size; };
struct conn {
    int fd;
    size_t sent;         /* of the batch that is going out */
    int sending;         /* whether one is */
    long replies_due;    /* of the batch that is out */
    uint64_t began;      /* when it went out, or was due */
    int stamp_at;        /* digits of a stamp still to come; 0 outside */
    uint64_t stamp;
};

static struct text says[STEPS_MAX], batch;
static char *untils[STEPS_MAX];
static int steps, connections = 1, mark = '!';
static long replies = 1;
static double seconds = 1, rate = 0;
static FILE *latencies;
static long samples;
static struct conn *conns;
static uint64_t count, first_ns, last_ns;
static char *buffer;

static void die(const char *what) {
    fprintf(stderr, "loadgen: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct text read_file(const char *path) {
    struct text text = {0};
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    fseek(file, 0, SEEK_END);
    text.size = (size_t)ftell(file);
    rewind(file);
    text.bytes = malloc(text.size + 1);
    if (fread(text.bytes, 1, text.size, file) != text.size) die(path);
    fclose(file);
    return text;
}

static int dial(const char *address) {
    int fd;
    if (!strncmp(address, "unix:", 5)) {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        strncpy(un.sun_path, address + 5, sizeof un.sun_path - 1);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&un, sizeof un)) die(address);
        return fd;
    }
    char host[64];
    const char *colon = strrchr(address, ':');
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    if (inet_pton(AF_INET, host, &in.sin_addr) != 1) die(address);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (connect(fd, (struct sockaddr *)&in, sizeof in))
        if (errno != EINTR) die(address);
    return fd;
}

static void send_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t sent = write(fd, data, size);
        if (sent < 0) die("write");
        data += sent;
        size -= (size_t)sent;
    }
}

/* Say the opening lines on a blocking socket, each until its answer came. */
static void open_dialogue(int fd) {
    for (int step = 0; step < steps; step++) {
        size_t held = 0;
        send_all(fd, says[step].bytes, says[step].size);
        while (*untils[step]) {
            ssize_t got = read(fd, buffer + held, READ_BYTES - held);
            if (got <= 0) die("the server hung up in the opening dialogue");
            held += (size_t)got;
            if (memmem(buffer, held, untils[step], strlen(untils[step]))) break;
            if (held > READ_BYTES / 2) { /* keep the end: the text may be cut in two */
                memmove(buffer, buffer + held - 4096, 4096);
                held = 4096;
            }
        }
    }
}

static void sample(uint64_t value) {
    if (latencies && samples++ < SAMPLES_MAX) fwrite(&value, sizeof value, 1, latencies);
}

static int digit(int c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

/* Count the marks in what came; read the stamps behind them. */
static long take(struct conn *c, const char *data, size_t size, uint64_t now) {
    const char *end = data + size;
    long found = 0;
    while (data < end) {
        if (c->stamp_at) {
            c->stamp = c->stamp << 4 | (uint64_t)digit(*data++);
            if (!--c->stamp_at) sample(now - c->stamp);
            continue;
        }
        const char *hit = memchr(data, mark, (size_t)(end - data));
        if (!hit) break;
        found++;
        data = hit + 1;
        if (latencies && replies == 0) {
            c->stamp_at = STAMP;
            c->stamp = 0;
        }
    }
    return found;
}

/* Read all there is. */
static long drain(struct conn *c) {
    long found = 0;
    for (;;) {
        ssize_t got = read(c->fd, buffer, READ_BYTES);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) return found;
        if (got <= 0) die("the server hung up");
        uint64_t now = now_ns();
        found += take(c, buffer, (size_t)got, now);
        if (!first_ns) first_ns = now;
        last_ns = now;
        if (got < READ_BYTES) return found;
    }
}

static void report(double elapsed) {
    printf("{\"count\": %lu, \"first_ns\": %lu, \"last_ns\": %lu, \"seconds\": %.6f}\n", count,
           first_ns, last_ns, elapsed);
    fflush(stdout);
}

static void run_sink(int epoll) {
    struct epoll_event events[EVENTS];
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input);
    replies = 0;
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) {
                char line[64];
                if (read(0, line, sizeof line) <= 0) return;
                if (latencies) fflush(latencies);
                report((double)(last_ns - first_ns) / 1e9);
                continue;
            }
            count += (uint64_t)drain(c);
        }
    }
}

static void push(struct conn *c) {
    while (c->sent < batch.size) {
        ssize_t sent = write(c->fd, batch.bytes + c->sent, batch.size - c->sent);
        if (sent < 0 && errno == EAGAIN) return;
        if (sent < 0) die("write");
        c->sent += (size_t)sent;
    }
    c->sending = 0;
}

static void begin(struct conn *c, uint64_t due) {
    c->sent = 0;
    c->sending = 1;
    c->began = due;
    c->replies_due += replies;
    push(c);
}

static void run_pump(int epoll) {
    struct epoll_event events[EVENTS];
    uint64_t start = now_ns(), stop = start + (uint64_t)(seconds * 1e9);
    int busy = connections;
    for (int i = 0; i < connections; i++) begin(&conns[i], start);
    while (busy) {
        int n = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (events[i].events & EPOLLIN) c->replies_due -= drain(c);
            if (c->sending) push(c);
            if (c->sending || c->replies_due > 0) continue;
            uint64_t now = now_ns();
            sample(now - c->began);
            count++;
            if (now < stop) begin(c, now);
            else busy--;
        }
    }
    report((double)(now_ns() - start) / 1e9);
}

static void run_pace(int epoll) {
    struct epoll_event events[EVENTS];
    char *stamp = memmem(batch.bytes, batch.size, "!0000000000000000", STAMP + 1);
    uint64_t start = now_ns(), step = (uint64_t)(1e9 / rate), due = start;
    uint64_t stop = start + (uint64_t)(seconds * 1e9);
    for (int next = 0; due < stop; due += step, next = (next + 1) % connections) {
        uint64_t now = now_ns();
        while (now < due) {
            struct timespec left = {.tv_nsec = (long)(due - now)};
            if (due - now > 60000) { /* the rest is spun: a sleep is late */
                left.tv_nsec -= 60000;
                left.tv_sec = left.tv_nsec / 1000000000;
                left.tv_nsec %= 1000000000;
                nanosleep(&left, NULL);
            }
            now = now_ns();
        }
        if (stamp) {
            char digits[STAMP + 1];
            snprintf(digits, sizeof digits, "%016lx", due);
            memcpy(stamp + 1, digits, STAMP);
        }
        struct conn *c = &conns[next];
        c->replies_due = 0;
        begin(c, due);
        while (c->sending) {
            struct pollfd wait = {.fd = c->fd, .events = POLLOUT | POLLIN};
            poll(&wait, 1, -1);
            if (wait.revents & POLLIN) drain(c);
            push(c);
        }
        count++;
        int n = epoll_wait(epoll, events, EVENTS, 0);
        for (int i = 0; i < n; i++) drain(events[i].data.ptr);
    }
    report((double)(now_ns() - start) / 1e9);
}

static void read_options(int argc, char **argv) {
    for (int i = 3; i + 1 < argc; i += 2) {
        char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--connections")) connections = atoi(value);
        else if (!strcmp(name, "--say") && steps < STEPS_MAX) {
            says[steps] = read_file(value);
            untils[steps++] = "";
        } else if (!strcmp(name, "--until") && steps) untils[steps - 1] = value;
        else if (!strcmp(name, "--batch")) batch = read_file(value);
        else if (!strcmp(name, "--mark")) mark = value[0];
        else if (!strcmp(name, "--replies")) replies = atol(value);
        else if (!strcmp(name, "--seconds")) seconds = atof(value);
        else if (!strcmp(name, "--rate")) rate = atof(value);
        else if (!strcmp(name, "--latencies")) latencies = fopen(value, "wb");
        else { fprintf(stderr, "loadgen: unknown option %s\n", name); exit(2); }
    }
}

int main(int argc, char **argv) {
    if (argc < 3) { fprintf(stderr, "loadgen sink|pump|pace ADDRESS [options]\n"); return 2; }
    buffer = malloc(READ_BYTES);
    read_options(argc, argv);
    conns = calloc((size_t)connections, sizeof *conns);
    int epoll = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &conns[i]};
        if (!strcmp(argv[1], "pump")) event.events |= EPOLLOUT | EPOLLET;
        conns[i].fd = dial(argv[2]);
        open_dialogue(conns[i].fd);
        fcntl(conns[i].fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(epoll, EPOLL_CTL_ADD, conns[i].fd, &event);
    }
    printf("ready\n");
    fflush(stdout);
    if (!strcmp(argv[1], "sink")) run_sink(epoll);
    else {
        char line[64];
        if (!fgets(line, sizeof line, stdin)) return 1;
        if (!strcmp(argv[1], "pump")) run_pump(epoll);
        else run_pace(epoll);
    }
    if (latencies) fclose(latencies);
    return 0;
}
