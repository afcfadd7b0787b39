import WeirCore
import WeirJSON

/// What the lines of one transaction have in common, rendered once while it stays the same.
struct CommitStamp: ~Copyable {
    private var writer = JSONWriter(capacity: 256)
    private var firstEnd = 0
    private var secondEnd = 0
    private var commit: UInt64 = 0
    private var commitMicros: Int64 = 0
    private var transaction: UInt32 = 0
    private var isEmpty = true

    /// Whether the parts are those of `event`'s transaction. If not, the caller writes them.
    @inline(__always)
    func fits(_ event: Event) -> Bool {
        commit == event.commit && commitMicros == event.commitMicros
            && transaction == event.transaction && !isEmpty
    }

    /// The same where only the time is in them.
    @inline(__always)
    func fitsTime(of event: Event) -> Bool { commitMicros == event.commitMicros && !isEmpty }

    /// Replaces the three parts.
    mutating func rewrite(
        for event: Event,
        first: (inout JSONWriter) -> Void,
        second: (inout JSONWriter) -> Void = { _ in },
        third: (inout JSONWriter) -> Void = { _ in }
    ) {
        writer.removeAll()
        first(&writer)
        firstEnd = writer.count
        second(&writer)
        secondEnd = writer.count
        third(&writer)
        commit = event.commit
        commitMicros = event.commitMicros
        transaction = event.transaction
        isEmpty = false
    }

    func appendFirst(to line: inout JSONWriter) { append(0..<firstEnd, to: &line) }
    func appendSecond(to line: inout JSONWriter) { append(firstEnd..<secondEnd, to: &line) }
    func appendThird(to line: inout JSONWriter) { append(secondEnd..<writer.count, to: &line) }

    @inline(__always)
    private func append(_ range: Range<Int>, to line: inout JSONWriter) {
        unsafe writer.withBytes { bytes in
            unsafe line.append(raw: UnsafeRawBufferPointer(rebasing: bytes[range]))
        }
    }
}
