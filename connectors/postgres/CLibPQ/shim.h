#pragma once
#include <libpq-fe.h>

/* libpq prints notices to stderr unless told otherwise; Weir's stderr is its log. */
static inline void weir_ignore_notice(void *arg, const PGresult *result) {
    (void)arg;
    (void)result;
}
static inline void weir_silence_notices(PGconn *conn) {
    PQsetNoticeReceiver(conn, weir_ignore_notice, 0);
}
