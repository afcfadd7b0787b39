import WeirCore

/// What a source remembers of its streams: which one was opened last, and up to where stored places
/// may be of another one. Pure.
///
/// A stream shows the event of its own tokens, and maybe not that of another stream's
/// (CORRECTNESS 62). Each sink of a pipeline has a place of its own, and comes to one of the new
/// stream at its own time.
struct StreamNote: Equatable, Sendable {
    /// The name of the scope.
    let stream: String
    /// Not before any place that another stream has given; nil when there was none.
    let othersEnd: Position?

    /// The key it is kept under.
    static let key = "stream"

    init(stream: String, othersEnd: Position?) {
        self.stream = stream
        self.othersEnd = othersEnd
    }

    /// For a stream that takes over from another one. An end that is too late does no harm.
    ///
    /// - Parameters:
    ///   - now: a cluster time that is not behind what the deployment has sent.
    ///   - stored: the least of the sinks' places.
    ///   - last: the note of the stream before.
    init(stream: String, takingOverAt now: UInt64, _ stored: Position, from last: StreamNote?) {
        let end = max(stored, ResumeToken.at(clusterTime: max(now, now &+ 1)).position)
        self.init(stream: stream, othersEnd: last?.othersEnd.map { max(end, $0) } ?? end)
    }

    /// From `text`; nil when it is none.
    init?(_ text: String) {
        let parts = text.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { return nil }
        let end = Position(text: parts[0])
        guard end != nil || parts[0].isEmpty else { return nil }
        self.init(stream: String(parts[1]), othersEnd: end)
    }

    /// `6B01850A00000014:00000000 cms.articles`; names may have spaces, places have none.
    var text: String { "\(othersEnd?.text ?? "") \(stream)" }

    /// Whether the place may be of another stream than this one.
    func mayBeAnothers(_ position: Position) -> Bool {
        othersEnd.map { position <= $0 } ?? false
    }
}
