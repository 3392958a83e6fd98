/*
 * pause holds the namespaces of a Pod.
 *
 * It is the first process of the Pod's sandbox: it sleeps until SIGTERM or SIGINT
 * and reaps what it inherits, should the Pod share its PID namespace. It uses no C
 * library, allocates nothing and never writes anything.
 */

#define SIGINT 2
#define SIGTERM 15
#define SIGCHLD 17
#define WNOHANG 1
#define SIG_BLOCK 0

#if defined(__x86_64__)

#define SYS_wait4 61
#define SYS_exit_group 231
#define SYS_rt_sigprocmask 14
#define SYS_rt_sigtimedwait 128

static long call(long number, long a, long b, long c, long d)
{
	long result;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}

#elif defined(__aarch64__)

#define SYS_wait4 260
#define SYS_exit_group 94
#define SYS_rt_sigprocmask 135
#define SYS_rt_sigtimedwait 137

static long call(long number, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3)
			 : "memory");
	return x0;
}

#else
#error "pause knows amd64 and arm64; add the system call numbers of this machine"
#endif

static unsigned long bit(int signal)
{
	return 1UL << (signal - 1);
}

void _start(void)
{
	/* Blocked signals stay pending until they are waited for, so none is lost, and
	 * the kernel delivers them to a PID 1 that has no handlers. */
	unsigned long signals = bit(SIGINT) | bit(SIGTERM) | bit(SIGCHLD);

	call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&signals, 0, sizeof signals);
	for (;;) {
		long signal = call(SYS_rt_sigtimedwait, (long)&signals, 0, 0, sizeof signals);

		if (signal == SIGTERM || signal == SIGINT)
			call(SYS_exit_group, 0, 0, 0, 0);
		while (call(SYS_wait4, -1, 0, WNOHANG, 0) > 0)
			;
	}
}
