#include "CMessageGuard.h"

#include <errno.h>
#include <mongoc/mongoc.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

/* The server's own limit, maxMessageSizeBytes. What it says of that is not asked for. */
#define MESSAGE_BYTES_MAX 48000000

/* A message begins so, all integers little-endian:

     length 4 | request 4 | response to 4 | opcode 4 |
       OP_MSG    flags 4 | kind of section 1 | document
       OP_REPLY  flags 4 | cursor 8 | from 4 | count 4 | document      (what answers the first hello)

   A document begins with its length. Servers answer with one document. */
enum { HEADER_BYTES = 16, MSG_BYTES = 21, REPLY_BYTES = 36, OP_REPLY = 1, OP_MSG = 2013 };

typedef struct {
    mongoc_stream_t stream;
    mongoc_stream_t *base;
    weir_message_guard *guard;
    uint8_t head[REPLY_BYTES + 4];
    /* Of the message that is being read: bytes seen, all of them, and those before its document. */
    size_t seen, length, before;
    bool is_broken;
} guarded_stream;

static uint32_t number(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

/* Called when so many bytes of a message were seen. */
static const char *fault(guarded_stream *self) {
    if (self->seen == 4) {
        self->length = number(self->head);
        if (self->length < MSG_BYTES + 5 || self->length > MESSAGE_BYTES_MAX)
            return "a message has an impossible length";
    } else if (self->seen == HEADER_BYTES) {
        uint32_t opcode = number(self->head + 12);
        if (opcode != OP_MSG && opcode != OP_REPLY)
            return "a message is of a kind that was not agreed on";
        self->before = opcode == OP_MSG ? MSG_BYTES : REPLY_BYTES;
        if (self->length < self->before + 5) return "a message has an impossible length";
    } else if (self->seen == self->before + 4) {
        size_t checksum = 0;
        if (self->before == MSG_BYTES) {
            if (self->head[20] != 0) return "a message does not begin with its document";
            if (number(self->head + HEADER_BYTES) & 1) checksum = 4;
        } else if (number(self->head + 32) != 1) {
            return "a message has another number of documents than one";
        }
        if (number(self->head + self->before) != self->length - self->before - checksum)
            return "a document has another length than its message";
    }
    return NULL;
}

/* The next position at which `fault` has something to say. */
static size_t next_check(const guarded_stream *self) {
    if (self->seen < 4) return 4;
    if (self->seen < HEADER_BYTES) return HEADER_BYTES;
    return self->before + 4;
}

static const char *look(guarded_stream *self, const uint8_t *bytes, size_t count) {
    while (count > 0) {
        size_t end = next_check(self), part;
        if (self->seen < end) {
            part = end - self->seen < count ? end - self->seen : count;
            memcpy(self->head + self->seen, bytes, part);
            self->seen += part;
            const char *found = self->seen == end ? fault(self) : NULL;
            if (found) return found;
        } else {
            part = self->length - self->seen < count ? self->length - self->seen : count;
            self->seen += part;
            if (self->seen == self->length) self->seen = self->before = 0;
        }
        bytes += part;
        count -= part;
    }
    return NULL;
}

static ssize_t guarded_readv(
    mongoc_stream_t *stream, mongoc_iovec_t *parts, size_t count, size_t least, int32_t timeout) {
    guarded_stream *self = (guarded_stream *)stream;
    if (self->is_broken) {
        errno = EBADMSG;
        return -1;
    }
    /* The socket's own function moves along in what it is given. */
    mongoc_iovec_t *kept = bson_malloc(count * sizeof *kept);
    memcpy(kept, parts, count * sizeof *kept);
    ssize_t got = mongoc_stream_readv(self->base, parts, count, least, timeout);
    const char *found = NULL;
    size_t left = got > 0 ? (size_t)got : 0;
    for (size_t index = 0; index < count && left > 0 && !found; index++) {
        size_t part = kept[index].iov_len < left ? kept[index].iov_len : left;
        found = look(self, kept[index].iov_base, part);
        left -= part;
    }
    bson_free(kept);
    if (!found) return got;
    self->is_broken = true;
    self->guard->reason = found;
    errno = EBADMSG;
    return -1;
}

static ssize_t guarded_writev(
    mongoc_stream_t *stream, mongoc_iovec_t *parts, size_t count, int32_t timeout) {
    return mongoc_stream_writev(((guarded_stream *)stream)->base, parts, count, timeout);
}

static void guarded_destroy(mongoc_stream_t *stream) {
    mongoc_stream_destroy(((guarded_stream *)stream)->base);
    bson_free(stream);
}

static void guarded_failed(mongoc_stream_t *stream) {
    mongoc_stream_failed(((guarded_stream *)stream)->base);
    bson_free(stream);
}

static int guarded_close(mongoc_stream_t *stream) {
    return mongoc_stream_close(((guarded_stream *)stream)->base);
}

static int guarded_flush(mongoc_stream_t *stream) {
    return mongoc_stream_flush(((guarded_stream *)stream)->base);
}

static int guarded_setsockopt(
    mongoc_stream_t *stream, int level, int name, void *value, mongoc_socklen_t length) {
    return mongoc_stream_setsockopt(((guarded_stream *)stream)->base, level, name, value, length);
}

static mongoc_stream_t *guarded_base(mongoc_stream_t *stream) {
    return ((guarded_stream *)stream)->base;
}

static bool guarded_check_closed(mongoc_stream_t *stream) {
    guarded_stream *self = (guarded_stream *)stream;
    return self->is_broken || mongoc_stream_check_closed(self->base);
}

static bool guarded_timed_out(mongoc_stream_t *stream) {
    guarded_stream *self = (guarded_stream *)stream;
    return !self->is_broken && mongoc_stream_timed_out(self->base);
}

static bool guarded_should_retry(mongoc_stream_t *stream) {
    guarded_stream *self = (guarded_stream *)stream;
    return !self->is_broken && mongoc_stream_should_retry(self->base);
}

static mongoc_stream_t *guarded_new(mongoc_stream_t *base, weir_message_guard *guard) {
    guarded_stream *self = bson_malloc0(sizeof *self);
    /* Any number that is none of the library's own kinds. */
    self->stream.type = 0x77;
    self->stream.destroy = guarded_destroy;
    self->stream.failed = guarded_failed;
    self->stream.close = guarded_close;
    self->stream.flush = guarded_flush;
    self->stream.writev = guarded_writev;
    self->stream.readv = guarded_readv;
    self->stream.setsockopt = guarded_setsockopt;
    self->stream.get_base_stream = guarded_base;
    self->stream.check_closed = guarded_check_closed;
    self->stream.timed_out = guarded_timed_out;
    self->stream.should_retry = guarded_should_retry;
    self->base = base;
    self->guard = guard;
    return &self->stream;
}

/* How long one of several addresses of a host may take; the last one is only begun, and the library
   waits for it together with the other hosts. */
static const int64_t ADDRESS_MICROS = 1000000;

static mongoc_socket_t *begin_tcp(const mongoc_host_list_t *host, bson_error_t *error) {
    struct addrinfo hints = {.ai_family = host->family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *all = NULL;
    char port[8];
    bson_snprintf(port, sizeof port, "%hu", host->port);
    if (getaddrinfo(host->host, port, &hints, &all) != 0) {
        bson_set_error(
            error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_NAME_RESOLUTION,
            "Failed to resolve '%s'", host->host);
        return NULL;
    }
    mongoc_socket_t *found = NULL;
    for (struct addrinfo *address = all; address && !found; address = address->ai_next) {
        found = mongoc_socket_new(address->ai_family, address->ai_socktype, address->ai_protocol);
        if (!found) continue;
        int64_t end = address->ai_next ? bson_get_monotonic_time() + ADDRESS_MICROS : 0;
        int code = mongoc_socket_connect(
            found, address->ai_addr, (mongoc_socklen_t)address->ai_addrlen, end);
        if (code != 0 && address->ai_next) {
            mongoc_socket_destroy(found);
            found = NULL;
        }
    }
    freeaddrinfo(all);
    return found;
}

static mongoc_socket_t *begin_unix(const mongoc_host_list_t *host) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    bson_snprintf(address.sun_path, sizeof address.sun_path, "%s", host->host);
    mongoc_socket_t *found = mongoc_socket_new(AF_UNIX, SOCK_STREAM, 0);
    if (found && mongoc_socket_connect(found, (struct sockaddr *)&address, sizeof address, -1)) {
        mongoc_socket_destroy(found);
        return NULL;
    }
    return found;
}

static mongoc_stream_t *begin_guarded(
    const mongoc_uri_t *uri, const mongoc_host_list_t *host, void *guard, bson_error_t *error) {
    (void)uri;
    memset(error, 0, sizeof *error);
    mongoc_socket_t *found = host->family == AF_UNIX ? begin_unix(host) : begin_tcp(host, error);
    mongoc_stream_t *base = found ? mongoc_stream_socket_new(found) : NULL;
    if (base) return guarded_new(base, guard);
    if (!error->code)
        bson_set_error(
            error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_CONNECT,
            "Failed to connect to '%s'", host->host_and_port);
    return NULL;
}

weir_message_guard *weir_guard_messages(struct _mongoc_client_t *client) {
    weir_message_guard *guard = calloc(1, sizeof *guard);
    if (guard) mongoc_client_set_stream_initiator(client, begin_guarded, guard);
    return guard;
}

void weir_message_guard_free(weir_message_guard *guard) { free(guard); }
