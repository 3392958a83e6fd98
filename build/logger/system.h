/*
 * What the logger needs of the kernel: system calls of amd64 and arm64, and the entry
 * point, which hands the initial stack to run().
 */

#define O_WRONLY 01
#define O_CREAT 0100
#define O_APPEND 02000
#define O_CLOEXEC 02000000
#define AT_FDCWD -100
#define SEEK_END 2
#define CLOCK_REALTIME 0
#define MADV_DONTNEED 4
#define SIG_BLOCK 0
#define POLLIN 1

#define EINTR 4
#define ENOENT 2
#define EIO 5
#define EAGAIN 11
#define ENOSPC 28
#define EROFS 30
#define EDQUOT 122

#define SIGHUP 1
#define SIGINT 2
#define SIGQUIT 3
#define SIGUSR1 10
#define SIGUSR2 12
#define SIGPIPE 13
#define SIGTERM 15

struct timespec {
	long seconds;
	long nanoseconds;
};

struct pollfd {
	int fd;
	short events;
	short revents;
};

/* The part of signalfd's 128 bytes that matters comes first. */
struct siginfo {
	unsigned signal;
	unsigned rest[31];
};

#if defined(__x86_64__)
#define O_NOFOLLOW 0400000

#define SYS_read 0
#define SYS_write 1
#define SYS_close 3
#define SYS_lseek 8
#define SYS_rt_sigprocmask 14
#define SYS_madvise 28
#define SYS_ftruncate 77
#define SYS_clock_gettime 228
#define SYS_exit_group 231
#define SYS_openat 257
#define SYS_ppoll 271
#define SYS_signalfd4 289

static long call(long number, long a, long b, long c, long d, long e)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}

__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call run\n");

#elif defined(__aarch64__)
#define O_NOFOLLOW 0100000

#define SYS_ftruncate 46
#define SYS_openat 56
#define SYS_close 57
#define SYS_lseek 62
#define SYS_read 63
#define SYS_write 64
#define SYS_ppoll 73
#define SYS_signalfd4 74
#define SYS_exit_group 94
#define SYS_clock_gettime 113
#define SYS_rt_sigprocmask 135
#define SYS_madvise 233

static long call(long number, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
			 : "memory");
	return x0;
}

__asm__(".globl _start\n"
	"_start:\n"
	"	mov x29, #0\n"
	"	mov x0, sp\n"
	"	bl run\n");

#else
#error "the logger knows amd64 and arm64; add the system call numbers of this machine"
#endif

static long sys_read(int fd, char *data, long length)
{
	return call(SYS_read, fd, (long)data, length, 0, 0);
}

static long sys_write(int fd, const char *data, long length)
{
	return call(SYS_write, fd, (long)data, length, 0, 0);
}

/* Opens a log file for appending. */
static int sys_open_log(const char *path)
{
	return (int)call(SYS_openat, AT_FDCWD, (long)path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640, 0);
}

static void sys_close(int fd)
{
	call(SYS_close, fd, 0, 0, 0, 0);
}

/* Takes the last bytes off a file again. */
static void sys_shorten(int fd, long bytes)
{
	long size = call(SYS_lseek, fd, 0, SEEK_END, 0, 0);

	if (size >= bytes)
		call(SYS_ftruncate, fd, size - bytes, 0, 0, 0);
}

/* Waits until something can be read, at most the given time; 0 waits for ever. */
static long sys_poll(struct pollfd *fds, long count, const struct timespec *timeout)
{
	/* The kernel may change the timeout. */
	struct timespec left = {0, 0};

	if (timeout)
		left = *timeout;
	return call(SYS_ppoll, (long)fds, count, (long)(timeout ? &left : 0), 0, 8);
}

static struct timespec sys_now(void)
{
	struct timespec now = {0, 0};

	call(SYS_clock_gettime, CLOCK_REALTIME, (long)&now, 0, 0, 0);
	return now;
}

/* Gives memory back; it reads as zero afterwards. */
static void sys_release(char *data, long length)
{
	call(SYS_madvise, (long)data, length, MADV_DONTNEED, 0, 0);
}

/* Turns signals into what can be read from the returned file. */
static int sys_signals(unsigned long signals)
{
	call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&signals, 0, sizeof signals, 0);
	return (int)call(SYS_signalfd4, -1, (long)&signals, sizeof signals, O_CLOEXEC, 0);
}

static void __attribute__((noreturn)) sys_exit(int code)
{
	for (;;)
		call(SYS_exit_group, code, 0, 0, 0, 0);
}
