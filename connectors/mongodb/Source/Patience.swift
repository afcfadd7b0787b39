import WeirCore

/// How long the server may take to answer, in multiples of what it usually may. Pure.
///
/// A server answers when it has as many events as were asked for, or has come to the oplog's end.
/// Where few changes of a busy deployment are followed that may take long, and all it found is lost
/// with an answer that nobody waited for: asked again in the same way it never comes to an end
/// (CORRECTNESS 54). It is kept with the pipeline, so that a start goes on with what it had.
struct Patience: Equatable {
    private(set) var factor = 1

    /// A quarter of an hour, where an answer usually may take a minute.
    static let most = 16
    /// The note it is kept under.
    static let key = "patience"

    init() {}

    /// From `text`; nil when it is none.
    init?(_ text: String) {
        guard let factor = Int(text), 1...Self.most ~= factor else { return nil }
        self.factor = factor
    }

    var text: String { "\(factor)" }

    /// More than usual is given.
    var isMore: Bool { factor > 1 }

    /// An answer did not come in time.
    mutating func ranOut() { factor = min(4 * factor, Self.most) }

    /// The stream is at the oplog's end: no answer is far any more, and one that does not come
    /// means a server that hangs.
    mutating func caughtUp() { factor = 1 }
}
