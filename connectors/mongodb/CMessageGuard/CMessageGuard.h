#pragma once

/* Looks at the frame of every message a server sends before libmongoc does.

   libmongoc 1.23 believes the lengths in it: one that lies makes it read past the end of what it
   received, ask for memory it cannot get, or abort, which ends every pipeline of the process. A
   frame that does not fit ends the connection instead, as a network error. */

struct _mongoc_client_t;

typedef struct weir_message_guard {
    /* Why the last connection was ended; NULL when that was not our doing. */
    const char *_Nullable reason;
} weir_message_guard;

/* For a client that uses no TLS and no compression, before its first command. NULL without memory;
   else valid until it is freed, after the client. */
weir_message_guard *_Nullable weir_guard_messages(struct _mongoc_client_t *_Nonnull client);

void weir_message_guard_free(weir_message_guard *_Nullable guard);
