/* The floor: what any job server on epoll has to do, and nothing else. No limits, no errors, one
 * function, no disconnects, and jobs are never freed. tests/bench/floors.py builds and measures it.
 *
 *     bare_loop PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PRE_SLEEP = 4, NOOP = 6, SUBMIT = 7, CREATED = 8, GRAB = 9, NO_JOB = 10, ASSIGN = 11,
       COMPLETE = 13, SUBMIT_BG = 18, PEERS = 20000, READ = 1 << 18 };

struct buffer { char *bytes; size_t start, end, room; };
static struct peer { struct buffer in, out; int dirty, polled; } peers[PEERS]; /* by descriptor */
static struct job { char *workload; size_t size; int client; } *jobs;
static size_t given, submitted, job_room;
static int asleep[PEERS], sleepers, dirty[PEERS], dirtied, poll_fd;

static char *reserve(struct buffer *buffer, size_t size)
{
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
    if (buffer->room - buffer->end < size)
        buffer->bytes = realloc(buffer->bytes, buffer->room = 2 * buffer->room + size);
    return buffer->bytes + buffer->end;
}

/* Queues a packet: handle of a job (0: none), then the rest of its body. */
static void put(int fd, unsigned type, size_t number, const char *rest, size_t size)
{
    struct peer *peer = &peers[fd];
    char *at = reserve(&peer->out, size + 64);
    size_t length = number ? (size_t)sprintf(at + 12, "H:bare:%zu", number) : 0;
    unsigned head[] = {htonl(0x00524553), htonl(type), htonl((unsigned)(length + size))};
    memcpy(at, head, 12);
    memcpy(at + 12 + length, rest, size);
    peer->out.end += 12 + length + size;
    if (!peer->dirty)
        dirty[dirtied++] = fd;
    peer->dirty = 1;
}

static void submit(int fd, char *body, size_t size, int background)
{
    char *workload = body + strlen(body) + 1;
    workload += strlen(workload) + 1;
    if (submitted == job_room)
        jobs = realloc(jobs, (job_room = 2 * job_room + 1024) * sizeof *jobs);
    struct job *job = &jobs[submitted++];
    job->size = (size_t)(body + size - workload) + 7;
    job->workload = malloc(job->size);
    memcpy(job->workload, "\0bench", 7);
    memcpy(job->workload + 7, workload, job->size - 7);
    job->client = background ? -1 : fd;
    put(fd, CREATED, submitted, "", 0);
    if (sleepers)
        put(asleep[--sleepers], NOOP, 0, "", 0);
}

static void handle(int fd, unsigned type, char *body, size_t size)
{
    if (type == SUBMIT || type == SUBMIT_BG)
        submit(fd, body, size, type == SUBMIT_BG);
    else if (type == GRAB && given < submitted) {
        struct job *job = &jobs[given++];
        put(fd, ASSIGN, given, job->workload, job->size);
    } else if (type == GRAB)
        put(fd, NO_JOB, 0, "", 0);
    else if (type == PRE_SLEEP && given < submitted)
        put(fd, NOOP, 0, "", 0);
    else if (type == PRE_SLEEP)
        asleep[sleepers++] = fd;
    else if (type == COMPLETE) {
        size_t number = strtoul(body + 7, NULL, 10), length = strlen(body);
        struct job *job = &jobs[number - 1];
        free(job->workload);
        if (job->client >= 0)
            put(job->client, COMPLETE, number, body + length, size - length);
    }
}

static void read_packets(int fd)
{
    struct buffer *in = &peers[fd].in;
    char *to = reserve(in, READ);
    ssize_t got = read(fd, to, in->room - in->end);
    if (got <= 0) {
        close(fd);
        return;
    }
    in->end += (size_t)got;
    while (in->end - in->start >= 12) {
        unsigned head[3];
        memcpy(head, in->bytes + in->start, 12);
        size_t size = ntohl(head[2]);
        if (in->end - in->start < 12 + size)
            break;
        handle(fd, ntohl(head[1]), in->bytes + in->start + 12, size);
        in->start += 12 + size;
    }
}

static void flush(int fd)
{
    struct peer *peer = &peers[fd];
    ssize_t sent = send(fd, peer->out.bytes + peer->out.start, peer->out.end - peer->out.start,
                        MSG_DONTWAIT | MSG_NOSIGNAL);
    peer->out.start += sent > 0 ? (size_t)sent : 0;
    int owed = peer->out.start < peer->out.end;
    if (owed != peer->polled)
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &(struct epoll_event){
            .events = EPOLLIN | (owed ? EPOLLOUT : 0), .data.fd = fd});
    peer->polled = owed;
    peer->dirty = 0;
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((unsigned short)atoi(arguments[count - 1]))};
    int listening = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 1024))
        return perror("bare_loop"), 1;
    poll_fd = epoll_create1(0);
    struct epoll_event found[512], event = {.events = EPOLLIN, .data.fd = listening};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listening, &event);
    for (;;) {
        int ready = epoll_wait(poll_fd, found, 512, -1);
        for (int i = 0; i < ready; i++) {
            int fd = found[i].data.fd;
            if (fd == listening) {
                event.data.fd = fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
                memset(&peers[fd], 0, sizeof peers[fd]);
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
                continue;
            }
            if (found[i].events & EPOLLOUT)
                flush(fd);
            if (found[i].events & ~(unsigned)EPOLLOUT)
                read_packets(fd);
        }
        while (dirtied)
            flush(dirty[--dirtied]);
    }
}
