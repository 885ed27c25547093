/* The tracer's messages: takes a request from the driver, runs it, replies; ends when the driver is gone. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tracer/tracer.h"

#define MESSAGE_SIZE (256u << 10)
#define STRINGS_MAX 4096

enum wake { WAKE_CHILD, WAKE_TIME_LIMIT, WAKE_DRIVER_GONE };

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Sleeps until a child changed its state, the time is up, or the driver is gone. */
static enum wake sleep_until(int driver, int child_signal, uint64_t deadline)
{
    struct pollfd wait[2] = {{.fd = child_signal, .events = POLLIN}, {.fd = driver, .events = POLLRDHUP}};
    struct signalfd_siginfo information;
    uint64_t time = now();
    if (time >= deadline)
        return WAKE_TIME_LIMIT;
    poll(wait, 2, (int)((deadline - time) / 1000000u) + 1);
    if (wait[1].revents)
        return WAKE_DRIVER_GONE;
    if (wait[0].revents && read(child_signal, &information, sizeof(information)) < 0)
        return WAKE_CHILD; /* another read took the signal: look all the same */
    return WAKE_CHILD;
}

/* Every step of a task wakes the tracer, and every answer wakes the task: on two CPUs that takes three times as long as
 * on one (measured in a virtual machine: 60 and 18 microseconds a step). So both are bound to one, each worker's. */
static void share_one_cpu(uint32_t worker)
{
    cpu_set_t allowed, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) == 0)
        return;
    int wanted = (int)(worker % (uint32_t)CPU_COUNT(&allowed)), cpu = 0;
    while (!CPU_ISSET(cpu, &allowed) || wanted-- > 0)
        cpu++;
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
}

/* Serves the job's tasks until the started process has ended. Returns 0 if the driver is gone. */
static int serve(struct rsm_job *job, int driver, int child_signal, uint64_t deadline)
{
    int status;
    for (;;) {
        pid_t pid = waitpid(-1, &status, __WALL | WNOHANG);
        if (pid > 0 && WIFSTOPPED(status)) {
            rsm_serve_stop(job, pid, status);
        } else if (pid == job->reply.pid) {
            job->reply.wait_status = status;
            return 1;
        } else if (pid == 0) {
            enum wake wake = sleep_until(driver, child_signal, deadline);
            if (wake == WAKE_TIME_LIMIT)
                job->reply.outcome = RSM_OUTCOME_TIME_LIMIT;
            if (wake != WAKE_CHILD)
                return wake == WAKE_TIME_LIMIT;
        } else if (pid < 0) {
            return 1; /* no child: cannot be while the started process has not been waited for */
        }
    }
}

static int run(struct rsm_job *job, int driver, int child_signal)
{
    uint64_t start = now();
    int driver_there = 1;
    cpu_set_t before;
    int stepped = job->request->traced == RSM_TRACED_STEPPED && sched_getaffinity(0, sizeof(before), &before) == 0;
    if (stepped)
        share_one_cpu(job->request->worker);
    if (rsm_spawn(job) == 0)
        driver_there = serve(job, driver, child_signal, start + job->request->time_limit * (uint64_t)1000000);
    if (stepped)
        sched_setaffinity(0, sizeof(before), &before);
    job->reply.nanoseconds = now() - start;
    uint32_t left = rsm_reap_all(job->reply.pid);
    if (job->reply.outcome == RSM_OUTCOME_ENDED)
        job->reply.strays = left;
    return driver_there;
}

/* Takes `count` strings from *at on; null if they do not end before `end`. */
static char **strings_take(char **at, const char *end, uint32_t count)
{
    char **strings = calloc(count + 1, sizeof(*strings));
    for (uint32_t i = 0; strings && i < count; i++) {
        char *stop = memchr(*at, 0, (size_t)(end - *at));
        if (!stop) {
            free(strings);
            return NULL;
        }
        strings[i] = *at;
        *at = stop + 1;
    }
    return strings;
}

static int job_read(struct rsm_job *job, char *message, size_t size)
{
    const struct rsm_request *request = (const struct rsm_request *)message;
    char *at = message + sizeof(*request), *end = message + size;
    if (size < sizeof(*request) || request->magic != RSM_REQUEST_MAGIC || !request->argument_count ||
        request->argument_count > STRINGS_MAX || request->environment_count > STRINGS_MAX)
        return -1;
    char **directory = strings_take(&at, end, 1);
    job->request = request;
    job->directory = directory ? directory[0] : NULL;
    free(directory);
    job->arguments = job->directory ? strings_take(&at, end, request->argument_count) : NULL;
    job->environment = job->arguments ? strings_take(&at, end, request->environment_count) : NULL;
    if (!job->environment)
        return -1;
    job->log =
        mmap(NULL, sizeof(struct rsm_log), PROT_READ | PROT_WRITE, MAP_SHARED, job->descriptor[RSM_DESCRIPTOR_LOG], 0);
    return job->log == MAP_FAILED ? -1 : 0;
}

static void job_end(struct rsm_job *job)
{
    if (job->log && job->log != MAP_FAILED)
        munmap(job->log, sizeof(struct rsm_log));
    free(job->arguments);
    free(job->environment);
    for (int i = 0; i < RSM_DESCRIPTOR_COUNT; i++)
        if (job->descriptor[i] >= 0)
            close(job->descriptor[i]);
}

/* Returns the size of the message, 0 when the driver has closed its end. */
static size_t message_receive(int driver, char *message, struct rsm_job *job)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(job->descriptor))];
    } control;
    struct iovec part = {message, MESSAGE_SIZE};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t size;
    do {
        size = recvmsg(driver, &header, MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    struct cmsghdr *attached = size > 0 ? CMSG_FIRSTHDR(&header) : NULL;
    if (attached && attached->cmsg_len == CMSG_LEN(sizeof(job->descriptor)))
        memcpy(job->descriptor, CMSG_DATA(attached), sizeof(job->descriptor));
    return size > 0 ? (size_t)size : 0;
}

/* Descriptors that are received must not be 0, 1 or 2, which spawn.c sets: a caller may have closed these. */
static void standard_descriptors_open(void)
{
    int descriptor;
    do {
        descriptor = open("/dev/null", O_RDWR);
    } while (descriptor >= 0 && descriptor <= 2);
    if (descriptor >= 0)
        close(descriptor);
}

int main(int argc, char **argv)
{
    static char message[MESSAGE_SIZE];
    sigset_t child;
    int driver = argc == 2 ? atoi(argv[1]) : -1, driver_there = driver > 2;
    standard_descriptors_open();
    signal(SIGCHLD, SIG_DFL); /* ignored, as a caller may have left it, children would vanish unseen */
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    int child_signal = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (driver_there)
        fcntl(driver, F_SETFD,
              FD_CLOEXEC); /* a scenario that inherited it could send replies, and keep the driver waiting */
    while (driver_there) {
        struct rsm_job job = {.descriptor = {-1, -1, -1}};
        size_t size = message_receive(driver, message, &job);
        if (size == 0)
            break;
        if (job_read(&job, message, size) == 0)
            driver_there = run(&job, driver, child_signal);
        else
            job.reply.outcome = RSM_OUTCOME_BAD_REQUEST;
        job_end(&job);
        driver_there = driver_there && send(driver, &job.reply, sizeof(job.reply), MSG_NOSIGNAL) > 0;
    }
    return 0;
}
