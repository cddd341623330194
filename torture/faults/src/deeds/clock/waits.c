/* Goes with libfaketime, which gives a process another wall clock and translates the deadlines of
 * pthread_cond_timedwait, but does not know C11's cnd_timedwait. librdkafka waits with that one:
 * it would add its patience to the wrong time and wait for an hour, or not at all. In glibc the
 * two are the same wait, so that this hands one on to the other. */
#include <errno.h>
#include <pthread.h>
#include <threads.h>

int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until)
{
    switch (pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until)) {
    case 0:
        return thrd_success;
    case ETIMEDOUT:
        return thrd_timedout;
    default:
        return thrd_error;
    }
}
