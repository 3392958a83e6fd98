/*
 * keelson-logger writes the output of one container into its log file.
 *
 * containerd's shim starts it for each container (binary logging):
 *
 *     keelson-logger log <path>      3: stdout, 4: stderr, 5: closed when ready
 *
 * Each line of the file is "<RFC 3339 time> <stdout|stderr> <F|P> <text>"; F marks a
 * line or the last piece of one longer than MAX_LINE, P a piece that no newline ends:
 * readers add one after F only. All whole lines of
 * one read reach the file in few writes, and no entry is torn.
 *
 * SIGTERM, which the shim sends after the container has ended and its own ends of the
 * pipes are closed, takes what is left and ends. The end of both streams ends it too,
 * so it outlives the shim for as long as the container does. SIGHUP opens the file
 * again, after it was renamed. Signals that a terminal or a supervisor might spread
 * are ignored: without the logger the container would die of its next write.
 *
 * It never makes the container wait for the disk: what cannot be written is dropped
 * and counted, and the log says so as soon as it can be written again. It uses no C
 * library, and gives its buffers back while the container is silent.
 */

#include "system.h"

#define MAX_LINE (16 << 10)
#define OUT_SIZE (64 << 10)
/* Buffers are whole pages of any size, so that giving one back touches nothing else. */
#define LARGEST_PAGE (64 << 10)
#define BUFFER_SIZE (2 * LARGEST_PAGE)
/* Reads after SIGTERM: more than a pipe of the largest usual size holds. */
#define LAST_READS 32

enum { STDOUT = 3, STDERR = 4, READY = 5 };

/* How long the container must be silent before buffers are given back. */
static const struct timespec silence = {1, 0};
static const struct timespec no_time = {0, 0};

/* One output of the container. buffer starts with the text after the last newline. */
struct stream {
	int fd; /* -1 after its end */
	long pending;
	const char *name;
	char *buffer;
};

static char stdout_buffer[BUFFER_SIZE] __attribute__((aligned(LARGEST_PAGE)));
static char stderr_buffer[BUFFER_SIZE] __attribute__((aligned(LARGEST_PAGE)));
static char out[OUT_SIZE] __attribute__((aligned(LARGEST_PAGE)));

static struct stream streams[] = {
	{STDOUT, 0, " stdout ", stdout_buffer},
	{STDERR, 0, " stderr ", stderr_buffer},
};

/* The log file; -1 while it cannot be opened. */
static const char *log_path;
static int log_fd = -1;

/* Entries that are not in the file yet, and how much of them is the container's text. */
static long out_length;
static long out_text;

/* Text that could not be written, and why. */
static unsigned long lost;
static int lost_error;

/* "<time> <stream> " of the entries of one read. */
static char head[48];
static long head_length;

typedef char chunk __attribute__((vector_size(16), aligned(1), may_alias));
typedef unsigned long words __attribute__((vector_size(16)));

static void copy(char *to, const char *from, long length)
{
	long at = 0;

	for (; at + 16 <= length; at += 16)
		*(chunk *)(to + at) = *(const chunk *)(from + at);
	for (; at < length; at++)
		to[at] = from[at];
}

/* The first newline, or end. */
static const char *newline(const char *from, const char *end)
{
	const chunk wanted = {'\n', '\n', '\n', '\n', '\n', '\n', '\n', '\n',
			      '\n', '\n', '\n', '\n', '\n', '\n', '\n', '\n'};

	for (; end - from >= 16; from += 16) {
		words equal = (words)(*(const chunk *)from == wanted);

		if (equal[0])
			return from + __builtin_ctzl(equal[0]) / 8;
		if (equal[1])
			return from + 8 + __builtin_ctzl(equal[1]) / 8;
	}
	while (from < end && *from != '\n')
		from++;
	return from;
}

static long length_of(const char *text)
{
	long length = 0;

	while (text[length])
		length++;
	return length;
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static char *put_text(char *at, const char *text)
{
	long length = length_of(text);

	copy(at, text, length);
	return at + length;
}

/* Writes a number with leading zeros. */
static char *put_digits(char *at, unsigned long number, int digits)
{
	for (int i = digits - 1; i >= 0; i--, number /= 10)
		at[i] = (char)('0' + number % 10);
	return at + digits;
}

static char *put_number(char *at, unsigned long number)
{
	int digits = 1;

	for (unsigned long left = number; left >= 10; left /= 10)
		digits++;
	return put_digits(at, number, digits);
}

/* Writes the date of a day since 1970. Years are counted from March, so that the leap
 * day is the last of its year, in eras of 400 years. */
static char *put_date(char *at, unsigned long day)
{
	unsigned long shifted = day + 719468; /* since 0000-03-01 */
	unsigned long era = shifted / 146097, of_era = shifted % 146097;
	unsigned long year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	unsigned long of_year = of_era - (365 * year + year / 4 - year / 100);
	unsigned long month = (5 * of_year + 2) / 153; /* 0 is March */
	unsigned long of_month = of_year - (153 * month + 2) / 5;

	at = put_digits(at, era * 400 + year + (month >= 10), 4);
	*at++ = '-';
	at = put_digits(at, month < 10 ? month + 3 : month - 9, 2);
	*at++ = '-';
	return put_digits(at, of_month + 1, 2);
}

/* Makes the head of the entries that follow. */
static void stamp(const char *name)
{
	struct timespec now = sys_now();
	unsigned long seconds = (unsigned long)now.seconds;
	char *at = put_date(head, seconds / 86400);

	*at++ = 'T';
	at = put_digits(at, seconds / 3600 % 24, 2);
	*at++ = ':';
	at = put_digits(at, seconds / 60 % 60, 2);
	*at++ = ':';
	at = put_digits(at, seconds % 60, 2);
	*at++ = '.';
	at = put_digits(at, (unsigned long)now.nanoseconds, 9);
	*at++ = 'Z';
	at = put_text(at, name);
	head_length = at - head;
}

/* Appends to the file all or nothing, and returns 0 or the error. */
static int append(const char *data, long length)
{
	long done = 0;

	if (log_fd < 0) {
		int fd = sys_open_log(log_path);

		if (fd < 0)
			return -fd;
		log_fd = fd;
	}
	while (done < length) {
		long written = sys_write(log_fd, data + done, length - done);

		if (written == -EINTR)
			continue;
		if (written <= 0) {
			if (done > 0)
				sys_shorten(log_fd, done);
			return written == 0 ? EIO : (int)-written;
		}
		done += written;
	}
	return 0;
}

/* Says in the log what was lost. */
static int report_loss(void)
{
	char entry[256];
	char *at = entry;
	int error;

	stamp(" stderr ");
	copy(at, head, head_length);
	at = put_text(at + head_length, "F keelson-logger: ");
	at = put_number(at, lost);
	at = put_text(at, " bytes of output were lost here: ");
	switch (lost_error) {
	case ENOSPC:
		at = put_text(at, "no space left on device");
		break;
	case EDQUOT:
		at = put_text(at, "disk quota exceeded");
		break;
	case EROFS:
		at = put_text(at, "read-only file system");
		break;
	case ENOENT:
		at = put_text(at, "no such file or directory");
		break;
	case EIO:
		at = put_text(at, "input/output error");
		break;
	default:
		at = put_number(put_text(at, "error "), (unsigned long)lost_error);
	}
	*at++ = '\n';
	error = append(entry, at - entry);
	if (!error)
		lost = 0;
	return error;
}

/* Empties out, into the file or, when that fails, into the count of what is lost. */
static void flush(void)
{
	int error = lost ? report_loss() : 0;

	if (!error)
		error = append(out, out_length);
	if (error) {
		lost += (unsigned long)out_text;
		lost_error = error;
	}
	out_length = out_text = 0;
}

static void entry(char tag, const char *text, long length)
{
	char *at;

	if (out_length + head_length + length + 3 > OUT_SIZE) {
		char kept[sizeof head];
		long kept_length = head_length;

		/* The report of a loss has a head of its own. */
		copy(kept, head, kept_length);
		flush();
		copy(head, kept, kept_length);
		head_length = kept_length;
	}
	at = out + out_length;
	copy(at, head, head_length);
	at += head_length;
	*at++ = tag;
	*at++ = ' ';
	copy(at, text, length);
	at[length] = '\n';
	out_length = at + length + 1 - out;
	out_text += length + 1;
}

/* Makes entries of what is in the buffer up to end, and keeps the unfinished line. The
 * pending text at its start holds no newline. */
static void cut(struct stream *s, const char *end)
{
	const char *text = s->buffer, *from = text + s->pending;

	stamp(s->name);
	for (;;) {
		const char *stop = newline(from, end);

		for (; stop - text > MAX_LINE; text += MAX_LINE)
			entry('P', text, MAX_LINE);
		if (stop == end)
			break;
		entry('F', text, stop - text);
		text = from = stop + 1;
	}
	s->pending = end - text;
	if (text != s->buffer)
		copy(s->buffer, text, s->pending); /* forwards: the places may overlap */
	if (out_length > 0)
		flush();
}

/* Writes the last line, which no newline ends. */
static void finish(struct stream *s)
{
	if (s->pending > 0) {
		stamp(s->name);
		entry('P', s->buffer, s->pending);
		s->pending = 0;
		flush();
	}
	s->fd = -1;
}

/* Takes what is in the pipe. */
static void take(struct stream *s)
{
	long got = sys_read(s->fd, s->buffer + s->pending, BUFFER_SIZE - s->pending);

	if (got > 0)
		cut(s, s->buffer + s->pending + got);
	else if (got != -EINTR && got != -EAGAIN)
		finish(s);
}

/* Takes what is left in the pipes, although somebody may hold their other ends, and
 * ends. */
static void __attribute__((noreturn)) end(void)
{
	for (int i = 0; i < 2; i++) {
		struct pollfd waiting = {streams[i].fd, POLLIN, 0};

		for (int reads = 0; reads < LAST_READS && streams[i].fd >= 0; reads++) {
			if (sys_poll(&waiting, 1, &no_time) <= 0)
				break;
			take(&streams[i]);
		}
		if (streams[i].fd >= 0)
			finish(&streams[i]);
	}
	if (lost)
		report_loss();
	sys_exit(0);
}

/* Continues in a new file under the same path; without one, in the old. */
static void reopen(void)
{
	int fd = sys_open_log(log_path);

	if (fd < 0)
		return;
	if (log_fd >= 0)
		sys_close(log_fd);
	log_fd = fd;
}

static void obey(int signals)
{
	struct siginfo info;

	if (sys_read(signals, (char *)&info, sizeof info) != sizeof info)
		return;
	if (info.signal == SIGHUP)
		reopen();
	else if (info.signal == SIGTERM)
		end();
}

static void release(void)
{
	for (int i = 0; i < 2; i++) {
		long kept = (streams[i].pending + LARGEST_PAGE - 1) & -LARGEST_PAGE;

		sys_release(streams[i].buffer + kept, BUFFER_SIZE - kept);
	}
	sys_release(out, OUT_SIZE);
}

static unsigned long bit(int signal)
{
	return 1UL << (signal - 1);
}

void __attribute__((noreturn, used)) run(long *stack);

void run(long *stack)
{
	static const char usage[] = "usage: keelson-logger log <path>; containerd's shim starts it, see ADR 0013\n";
	char **arguments = (char **)(stack + 1);
	int signals, used = 0;

	if (stack[0] != 3 || !same(arguments[1], "log")) {
		sys_write(2, usage, sizeof usage - 1);
		sys_exit(2);
	}
	signals = sys_signals(bit(SIGHUP) | bit(SIGTERM) | bit(SIGINT) | bit(SIGQUIT) | bit(SIGPIPE) | bit(SIGUSR1) | bit(SIGUSR2));
	log_path = arguments[2];
	reopen();
	sys_close(READY);
	while (streams[0].fd >= 0 || streams[1].fd >= 0) {
		struct pollfd waiting[] = {
			{streams[0].fd, POLLIN, 0}, {streams[1].fd, POLLIN, 0}, {signals, POLLIN, 0},
		};

		if (sys_poll(waiting, 3, used ? &silence : 0) == 0) {
			release();
			used = 0;
			continue;
		}
		for (int i = 0; i < 2; i++) {
			if (waiting[i].revents) {
				take(&streams[i]);
				used = 1;
			}
		}
		if (waiting[2].revents)
			obey(signals);
	}
	end();
}
