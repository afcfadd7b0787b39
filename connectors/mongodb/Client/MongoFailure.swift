import WeirCore

/// An error as the server or libmongoc reported it. Its message is short and harmless to a
/// terminal, whoever the server is.
package struct MongoFailure: Error, Sendable {
    package enum Kind: Sendable {
        /// The server refused a command; the connection still works.
        case command
        /// No server was found, or a connection broke.
        case network
        /// The server did not answer in the time that an answer may take.
        case timeout
        /// Logging in failed.
        case authentication
        /// libmongoc itself refused what was asked of it.
        case client
        /// Nobody waits for the answer any more.
        case interrupted
    }

    static let interrupted = MongoFailure(.interrupted, "cut short")

    package let kind: Kind
    /// The server's code; 0 when it did not send one.
    package let code: Int
    /// The server's words, one line.
    package let message: String
    /// What the server says may be done about it.
    package let labels: [String]

    /// The same, but of another kind.
    func with(_ kind: Kind) -> MongoFailure {
        MongoFailure(kind, code: code, message, labels: labels)
    }

    package init(_ kind: Kind, code: Int = 0, _ message: String, labels: [String] = []) {
        self.kind = kind
        self.code = code
        self.message = ForeignText.visible(message)
        self.labels = labels
    }

    package func has(_ label: String) -> Bool { labels.contains(label) }
}
