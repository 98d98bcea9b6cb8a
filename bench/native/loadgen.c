/* A load generator that is not the bottleneck: one thread, one epoll loop, no parsing.
 *
 *   loadgen sink  ADDRESS [options]   receives and counts
 *   loadgen pump  ADDRESS [options]   sends a batch, waits for its replies, sends the next
 *   loadgen pace  ADDRESS [options]   sends a batch at each tick of a clock (open loop)
 *
 * A message is counted by its mark, a byte that stands once in each payload and nowhere else on
 * the wire; a reply likewise by its own. So any protocol will do: what is sent comes ready made in
 * files. With --latencies a sink takes the sixteen hex digits behind the mark for the time at which
 * the message was due (not sent: a sender held up must not hide it), in ns of the monotonic clock;
 * a pump measures how long each batch took to be answered.
 *
 * With --ledger all generators of a trial share two counters in a file: what was sent, times its
 * receivers, and what was received. A pump begins no batch while more than --window is on its way,
 * so that the slowest receiver sets the pace and nothing needs to be thrown away.
 *
 * Options: --connections N, --say FILE --until TEXT (repeated: the opening dialogue),
 * --batch FILE, --batches N (equal parts of that file, sent in turns), --mark CHAR,
 * --replies N (marks that answer one batch), --seconds S, --rate BATCHES_PER_SECOND,
 * --latencies FILE, --ledger FILE, --each N (deliveries of one batch), --window DELIVERIES.
 *
 * Prints "ready", then waits for a line on the standard input. A sink answers each line "count"
 * with its counters and ends at the end of the input; the others run and print their counters. A
 * pace ends before its time at a second line.
 *
 * Long because its three modes share one kind of connection and one set of counters.
 */
#include "net.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

enum { STEPS_MAX = 8, STAMP = 16, SAMPLES_MAX = 20000000 };

struct conn {
    int fd;
    const char *data;    /* the batch that is going out */
    size_t sent;         /* of it */
    int sending;         /* whether one is */
    int waiting;         /* for the window to open */
    long replies_due;    /* of the batch that is out */
    uint64_t began;      /* when it went out, or was due */
    int stamp_at;        /* digits of a stamp still to come; 0 outside */
    uint64_t stamp;
};

static struct text says[STEPS_MAX], batch; /* the size is that of one of the batches */
static char *untils[STEPS_MAX];
static int steps, connections = 1, mark = '!';
static long replies = 1, batches = 1, turn, closed;
static uint64_t each, window;
static struct { uint64_t sent, received; } *ledger;
static double seconds = 1, rate = 0;
static FILE *latencies;
static long samples;
static struct conn *conns;
static uint64_t count, first_ns, last_ns;
static char *buffer;

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
        if (got <= 0 && replies == 0) { /* a sink goes on counting at the others */
            close(c->fd);
            closed++;
            return found;
        }
        if (got <= 0) die("the server hung up");
        uint64_t now = now_ns();
        found += take(c, buffer, (size_t)got, now);
        if (!first_ns) first_ns = now;
        last_ns = now;
        if (got < READ_BYTES) return found;
    }
}

static void report(double elapsed) {
    printf("{\"count\": %lu, \"first_ns\": %lu, \"last_ns\": %lu, \"seconds\": %.6f, "
           "\"closed\": %ld}\n", count, first_ns, last_ns, elapsed, closed);
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
            uint64_t found = (uint64_t)drain(c);
            count += found;
            if (ledger) __atomic_fetch_add(&ledger->received, found, __ATOMIC_RELAXED);
        }
    }
}

static void push(struct conn *c) {
    while (c->sent < batch.size) {
        ssize_t sent = write(c->fd, c->data + c->sent, batch.size - c->sent);
        if (sent < 0 && errno == EAGAIN) return;
        if (sent < 0) die("write");
        c->sent += (size_t)sent;
    }
    c->sending = 0;
}

static void begin(struct conn *c, uint64_t due) {
    if (ledger) __atomic_fetch_add(&ledger->sent, each, __ATOMIC_RELAXED);
    c->data = batch.bytes + (size_t)(turn++ % batches) * batch.size;
    c->waiting = 0;
    c->sent = 0;
    c->sending = 1;
    c->began = due;
    c->replies_due += replies;
    push(c);
}

static int window_open(void) {
    return !ledger || (int64_t)(__atomic_load_n(&ledger->sent, __ATOMIC_RELAXED) -
                                __atomic_load_n(&ledger->received, __ATOMIC_RELAXED)) <
                          (int64_t)window;
}

static void run_pump(int epoll) {
    struct epoll_event events[EVENTS];
    uint64_t start = now_ns(), stop = start + (uint64_t)(seconds * 1e9);
    int busy = connections, waiting = 0;
    for (int i = 0; i < connections; i++) begin(&conns[i], start);
    while (busy) {
        int n = epoll_wait(epoll, events, EVENTS, waiting ? 1 : -1);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (events[i].events & EPOLLIN) c->replies_due -= drain(c);
            if (c->sending) push(c);
            if (c->waiting || c->sending || c->replies_due > 0) continue;
            sample(now_ns() - c->began);
            count++;
            c->waiting = ++waiting;
        }
        for (int i = 0; waiting && i < connections; i++) {
            uint64_t now = now_ns();
            if (!conns[i].waiting || (now < stop && !window_open())) continue;
            waiting--;
            if (now < stop) begin(&conns[i], now);
            else {
                busy--;
                conns[i].waiting = 0;
                conns[i].replies_due = 1; /* never again */
            }
        }
    }
    report((double)(now_ns() - start) / 1e9);
}

static void run_pace(int epoll) {
    struct epoll_event events[EVENTS];
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input);
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
            memcpy(stamp + 1 + (size_t)(turn % batches) * batch.size, digits, STAMP);
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
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) drain(events[i].data.ptr);
            else stop = 0;
        }
    }
    report((double)(now_ns() - start) / 1e9);
}

static void open_ledger(const char *path) {
    int fd = open(path, O_RDWR);
    if (fd < 0) die(path);
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ledger == MAP_FAILED) die(path);
    close(fd);
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
        else if (!strcmp(name, "--batches")) batches = atol(value);
        else if (!strcmp(name, "--ledger")) open_ledger(value);
        else if (!strcmp(name, "--each")) each = strtoull(value, NULL, 10);
        else if (!strcmp(name, "--window")) window = strtoull(value, NULL, 10);
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
    batch.size /= (size_t)batches;
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
