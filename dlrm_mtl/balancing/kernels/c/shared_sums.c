/* Sums of a few numbers over ranks that share memory: each writes its own there, and adds up those of all, in the order
   of ranks. So a rank that is late costs the others nothing until they need its numbers.

   A rank's messages take turns in its ring of slots. Nobody confirms them: who reads so late that the slot holds another
   message sees that, and says so. */

#define _GNU_SOURCE
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "balancing.h"

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define SLOTS 8
#define SPINS 512

struct message {
    _Atomic uint32_t state; /* twice its number; one less while it is written */
    _Atomic uint32_t sleepers;
    long count;
    double values[];
};

/* Bytes of a slot for so many values, on a cache line of its own. */
static long slot_bytes(long capacity) { return (sizeof(struct message) + capacity * sizeof(double) + 63) / 64 * 64; }

long shared_bytes(int ranks, long capacity) { return ranks * SLOTS * slot_bytes(capacity); }

static struct message *slot(const struct exchange *exchange, int rank, uint32_t number) {
    return (struct message *)(exchange->memory + (rank * SLOTS + number % SLOTS) * slot_bytes(exchange->capacity));
}

/* Until somebody wakes it, its state is another, or the time is over. */
static void sleep_on(struct message *message, uint32_t state, long microseconds) {
#ifdef __linux__
    struct timespec patience = {microseconds / 1000000, microseconds % 1000000 * 1000};
    syscall(SYS_futex, &message->state, FUTEX_WAIT, state, &patience, NULL, 0);
#else
    struct timespec moment = {0, 50000};
    (void)message, (void)state, (void)microseconds;
    nanosleep(&moment, NULL);
#endif
}

static void wake(struct message *message) {
#ifdef __linux__
    syscall(SYS_futex, &message->state, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
#else
    (void)message;
#endif
}

void put(const struct exchange *exchange, uint32_t number, const double *values, long count) {
    struct message *mine = slot(exchange, exchange->rank, number);
    atomic_store_explicit(&mine->state, 2 * number - 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    mine->count = count;
    memcpy(mine->values, values, count * sizeof(double));
    /* Either this rank sees the sleeper, or the sleeper the message: both orders are sequentially consistent. */
    atomic_store(&mine->state, 2 * number);
    if (atomic_load(&mine->sleepers)) wake(mine);
}

/* Waits for a message at most so long; returns its state. */
static uint32_t await(struct message *message, uint32_t state, long microseconds) {
    uint32_t seen = atomic_load(&message->state);
    for (int spin = 0; spin < SPINS && (int32_t)(seen - state) < 0 && microseconds; spin++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
        seen = atomic_load(&message->state);
    }
    if ((int32_t)(seen - state) >= 0 || !microseconds) return seen;
    atomic_fetch_add(&message->sleepers, 1);
    seen = atomic_load(&message->state);
    if ((int32_t)(seen - state) < 0) sleep_on(message, seen, microseconds);
    atomic_fetch_sub(&message->sleepers, 1);
    return atomic_load(&message->state);
}

enum outcome add_up(const struct exchange *exchange, uint32_t number, double *sums, long count, long microseconds,
                    int *culprit) {
    memset(sums, 0, count * sizeof(double));
    for (int rank = 0; rank < exchange->ranks; rank++) {
        struct message *message = slot(exchange, rank, number);
        *culprit = rank;
        int32_t ahead = await(message, 2 * number, microseconds) - 2 * number;
        if (ahead) return ahead < 0 ? MISSING : OVERWRITTEN;
        if (message->count != count) return OTHER_COUNT;
        for (long i = 0; i < count; i++) sums[i] += message->values[i];
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&message->state, memory_order_relaxed) != 2 * number) return OVERWRITTEN;
    }
    return COMPLETE;
}
