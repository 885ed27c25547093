/* A program that does one thing that a follower has to see, and ends with 0 if all went as it does without a tracer. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *self;
static volatile sig_atomic_t handled;

static void handle(int number)
{
    handled += number == SIGUSR1;
}

static void *nothing(void *unused)
{
    return unused;
}

static void *become(void *unused)
{
    execl(self, self, "nothing", NULL);
    return unused;
}

static int ended_with(pid_t child, int wanted)
{
    int status = 0;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == wanted ? 0 : 1;
}

static int fork_and_wait(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(3);
    return ended_with(child, 3);
}

static int vfork_and_wait(void)
{
    pid_t child = vfork();
    if (child == 0) {
        execl(self, self, "nothing", NULL);
        _exit(3);
    }
    return ended_with(child, 0);
}

static int create_thread(void)
{
    pthread_t thread;
    return pthread_create(&thread, NULL, nothing, NULL) != 0 || pthread_join(thread, NULL) != 0;
}

static int exec_from_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, become, NULL);
    pthread_join(thread, NULL);
    return 1;
}

static int take_signals(void)
{
    signal(SIGUSR1, handle);
    for (int i = 0; i < 100; i++)
        kill(getpid(), SIGUSR1);
    return handled != 100;
}

/* A child that stops itself goes on when it is told to, and not before. */
static int stop_and_continue(void)
{
    volatile int *went_on = mmap(NULL, sizeof(*went_on), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0, too_early;
    pid_t child = fork();
    if (child == 0) {
        raise(SIGSTOP);
        *went_on = 1;
        _exit(3);
    }
    if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP)
        return 2;
    usleep(100000);
    too_early = *went_on;
    kill(child, SIGCONT);
    return ended_with(child, 3) || too_early;
}

static int leave_children(void)
{
    for (int i = 0; i < 3; i++)
        if (fork() == 0) {
            setpgid(0, 0);
            if (i == 1)
                raise(SIGSTOP);
            for (;;)
                pause();
        }
    return 0;
}

static void *wait_for_ever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static int wait_with_a_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_ever, NULL);
    wait_for_ever(NULL);
    return 1;
}

/* The main thread ends at SIGUSR1, and the process does not. */
static int leave_main(void)
{
    pthread_t thread;
    signal(SIGUSR1, handle);
    pthread_create(&thread, NULL, wait_for_ever, NULL);
    while (!handled)
        pause();
    pthread_exit(NULL);
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    self = arguments[0];
    if (strcmp(what, "fork") == 0)
        return fork_and_wait();
    if (strcmp(what, "vfork") == 0)
        return vfork_and_wait();
    if (strcmp(what, "clone") == 0)
        return create_thread();
    if (strcmp(what, "exec") == 0)
        become(NULL);
    if (strcmp(what, "exec-from-thread") == 0)
        return exec_from_thread();
    if (strcmp(what, "signals") == 0)
        return take_signals();
    if (strcmp(what, "group-stop") == 0)
        return stop_and_continue();
    if (strcmp(what, "leave") == 0)
        return leave_children();
    if (strcmp(what, "wait") == 0)
        return wait_with_a_thread();
    if (strcmp(what, "leave-main") == 0)
        return leave_main();
    return strcmp(what, "exit") == 0 ? 7 : 0;
}
