import WeirCore

/// An error as the server, the network or TLS reported it. Holds no credentials and no arguments of
/// commands. Its message is short and harmless to a terminal, whoever the server is.
package struct RedisFailure: Error, Sendable, Equatable {
    package let kind: Kind
    /// The other side's own words where it had any; one line.
    package let message: String

    package enum Kind: Sendable, Equatable {
        /// The connection could not be made or is gone.
        case connection
        /// It took too long.
        case timeout
        /// The certificate, the host name or the handshake was refused.
        case tls
        /// The server wants other credentials.
        case authentication
        /// The server refused a command, such as `code` "WRONGTYPE"; the connection still works.
        case reply(code: String)
        /// What came is not RESP, or answers nothing.
        case protocolError
        case cancelled
    }

    package init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = ForeignText.visible(message)
    }

    /// An error reply: `.reply`, unless it is about credentials or ends the connection.
    package init(_ error: RESPError) {
        let kind: Kind =
            if ["NOAUTH", "WRONGPASS"].contains(error.code) {
                .authentication
            } else if error.code == "DENIED" || error.text.hasPrefix("ERR max number of clients") {
                // Protected mode, and `maxclients`: the server closes right after it.
                .connection
            } else {
                .reply(code: error.code)
            }
        self.init(kind, error.safeText)
    }
}
