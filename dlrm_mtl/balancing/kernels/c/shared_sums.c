/* Sums of a few numbers over ranks that share memory: each rank writes its numbers there, and adds those of all ranks
   in the order of ranks. A rank waits for another only when it needs the sum.

   Each rank writes its messages into a ring of slots, without confirmation. A rank that reads so late that the slot
   holds a later message returns OVERWRITTEN. */

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
    _Atomic uint32_t state; /* twice the message's number; one less while it is written */
    _Atomic uint32_t sleepers;
    long count;
    double values[];
};

/* Bytes of a slot, in whole cache lines. */
static long slot_bytes(long capacity) { return (sizeof(struct message) + capacity * sizeof(double) + 63) / 64 * 64; }

long shared_bytes(int ranks, long capacity) { return ranks * SLOTS * slot_bytes(capacity); }

static struct message *slot(const struct exchange *exchange, int rank, uint32_t number) {
    return (struct message *)(exchange->memory + (rank * SLOTS + number % SLOTS) * slot_bytes(exchange->capacity));
}

/* Sleeps until another rank wakes this one, the state changes, or the time is over. */
static void sleep_on(struct message *message, uint32_t state, long microseconds) {
#ifdef __linux__
    struct timespec timeout = {microseconds / 1000000, microseconds % 1000000 * 1000};
    syscall(SYS_futex, &message->state, FUTEX_WAIT, state, &timeout, NULL, 0);
#else
    struct timespec pause = {0, 50000};
    (void)message, (void)state, (void)microseconds;
    nanosleep(&pause, NULL);
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
    struct message *own = slot(exchange, exchange->rank, number);
    atomic_store_explicit(&own->state, 2 * number - 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    own->count = count;
    memcpy(own->values, values, count * sizeof(double));
    /* Sequentially consistent: either this rank sees the sleeper, or the sleeper sees the message. */
    atomic_store(&own->state, 2 * number);
    if (atomic_load(&own->sleepers)) wake(own);
}

/* Waits for a message for at most this long; returns its state. */
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
