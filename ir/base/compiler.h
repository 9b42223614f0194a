/* compiler.h - the few compiler attributes the code uses, in one place. */
#ifndef ATTNC_BASE_COMPILER_H
#define ATTNC_BASE_COMPILER_H

#if defined(__GNUC__) || defined(__clang__)
#define ATTNC_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define ATTNC_NORETURN __attribute__((noreturn))
#else
#define ATTNC_PRINTF(fmt, first)
#define ATTNC_NORETURN
#endif

/* Our own bug: says where, and ends the process with exit code 70 (interface.md). Never for a user's mistake. */
ATTNC_NORETURN void attnc_bug(const char *file, int line, const char *what);
#define ATTNC_BUG(what) attnc_bug(__FILE__, __LINE__, what)
#define ATTNC_CHECK(cond) ((cond) ? (void)0 : attnc_bug(__FILE__, __LINE__, #cond))
#define ATTNC_UNREACHABLE() attnc_bug(__FILE__, __LINE__, "unreachable")

#define ATTNC_COUNT(a) (sizeof(a) / sizeof *(a))

#endif
