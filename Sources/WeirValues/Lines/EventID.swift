package import WeirCore
package import WeirJSON

/// What tells an event from all others: the same at every redelivery.
///
///     pg:shop:00000000016B37A0:00000000    prefix, source, high and low number of the position
///     mg:cms:826B01850A000000142B042C…     prefix, source, the position as a resume token
///
/// This is the only place that makes one. It has no character that JSON would escape.
package struct EventID: Sendable {
    /// Up to the high number.
    private let head: [UInt8]
    /// What the position begins with: the first digits of a resume token, or nothing.
    private let placeHead: [UInt8]
    /// The low number and its colons are in it.
    private let hasLow: Bool

    /// - Parameter source: its name, which has only letters, digits, `-` and `_`.
    package init(_ notation: SourceNotation, source: String) {
        placeHead = Array((notation.idHead ?? "").utf8)
        head = Array("\(notation.idPrefix):\(source):".utf8) + placeHead
        hasLow = notation.idHead == nil
    }

    /// For messages: the tail of a position in a change stream holds the whole `_id`, which may
    /// have thousands of bytes.
    package static func shown(
        _ position: Position, _ notation: SourceNotation, source: String
    ) -> String {
        let text = notation.exact(position)
        let place = text.utf8.count <= shownMax ? text : text.prefix(shownMax) + "…"
        return "\(notation.idPrefix):\(source):\(place)"
    }

    private static let shownMax = 160

    package func append(of event: Event, in batch: BatchView, to writer: inout JSONWriter) {
        appendShared(event.commit, to: &writer)
        appendOwn(of: event, in: batch, to: &writer)
    }

    /// Appends what all events of a commit have in common.
    func appendShared(_ commit: UInt64, to writer: inout JSONWriter) {
        append(head, commit, to: &writer)
    }

    /// Appends what follows.
    @inline(__always)
    func appendOwn(of event: Event, in batch: BatchView, to writer: inout JSONWriter) {
        if hasLow { writer.appendHex(UInt64(event.ordinal), digits: 8, uppercase: true) }
        if let tail = batch.detail(.tail, of: event) {
            if hasLow { writer.append(UInt8(ascii: ":")) }
            unsafe writer.append(raw: batch.bytes(of: tail))
        }
    }

    /// Appends the position alone.
    func appendPlace(of event: Event, in batch: BatchView, to writer: inout JSONWriter) {
        append(placeHead, event.commit, to: &writer)
        appendOwn(of: event, in: batch, to: &writer)
    }

    private func append(_ head: [UInt8], _ commit: UInt64, to writer: inout JSONWriter) {
        writer.append(contentsOf: head)
        writer.appendHex(commit, digits: 16, uppercase: true)
        if hasLow { writer.append(UInt8(ascii: ":")) }
    }
}
