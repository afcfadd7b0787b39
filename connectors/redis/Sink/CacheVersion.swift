import WeirCore
import WeirJSON
import WeirValues

/// How new the value of a key is: epoch and position of its change, as 32 upper-case hex digits and
/// the position's tail. Comparing text compares versions. Numbers in Lua are doubles and would lose
/// the low digits.
///
/// Tails of events are hex digits too, and none begins another (the resume tokens of MongoDB are
/// like that). So two versions that differ do so at a digit that both have.
struct CacheVersion: Sendable, Equatable, Comparable {
    let epoch: UInt32
    let commit: UInt64
    let ordinal: UInt32
    /// Upper-case hex digits, or none.
    let tail: String

    /// Of everything but the tail.
    static let digits = 32

    init(epoch: UInt32, commit: UInt64, ordinal: UInt32, tail: String = "") {
        self.epoch = epoch
        self.commit = commit
        self.ordinal = ordinal
        self.tail = tail
    }

    /// The version right behind it. A change that has this very version belongs to the same
    /// transaction, so a row read after that was visible holds it already.
    ///
    /// A tail stands behind the ordinal, so it is behind all tails of the commit too: those are
    /// changes of one transaction, or of other shards that have passed this moment as well.
    var next: CacheVersion {
        CacheVersion(epoch: epoch, commit: commit, ordinal: ordinal &+ 1)
    }

    /// - Throws: `weir.bug` when the position's tail has other characters than digits.
    init(epoch: UInt32, of event: Event, in batch: EventBatch) throws(WeirError) {
        self = batch.withView { EventVersion(epoch: epoch, of: event, in: $0).kept }
        guard tail.utf8.allSatisfy(Self.isDigit) else {
            let place = batch.position(of: event)
            throw WeirError(.bug, .bug, "position \(place) of an event has no order as text")
        }
    }

    /// Of a key that Weir has not written.
    static let none = CacheVersion(epoch: 0, commit: 0, ordinal: 0)

    /// Older than every change of the epoch.
    static func start(of epoch: UInt32) -> CacheVersion {
        CacheVersion(epoch: epoch, commit: 0, ordinal: 0)
    }

    /// Nil when the text is no version.
    init?(parsing text: some StringProtocol) {
        guard text.utf8.count >= Self.digits, text.utf8.allSatisfy(Self.isDigit) else {
            return nil
        }
        let commit = text.index(text.startIndex, offsetBy: 8)
        let ordinal = text.index(commit, offsetBy: 16)
        let tail = text.index(ordinal, offsetBy: 8)
        guard let epochNumber = UInt32(text[..<commit], radix: 16),
            let commitNumber = UInt64(text[commit..<ordinal], radix: 16),
            let ordinalNumber = UInt32(text[ordinal..<tail], radix: 16)
        else { return nil }
        self.init(
            epoch: epochNumber, commit: commitNumber, ordinal: ordinalNumber,
            tail: String(text[tail...]))
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            || (UInt8(ascii: "A")...UInt8(ascii: "F")).contains(byte)
    }

    var text: String {
        Self.hex(UInt64(epoch), 8) + Self.hex(commit, 16) + Self.hex(UInt64(ordinal), 8) + tail
    }

    private static func hex(_ number: UInt64, _ digits: Int) -> String {
        let text = String(number, radix: 16, uppercase: true)
        return String(repeating: "0", count: digits - text.utf8.count) + text
    }

    static func < (left: CacheVersion, right: CacheVersion) -> Bool {
        let numbers = (left.epoch, left.commit, left.ordinal)
        let others = (right.epoch, right.commit, right.ordinal)
        if numbers != others { return numbers < others }
        return left.tail.utf8.lexicographicallyPrecedes(right.tail.utf8)
    }
}

/// The version of one event, with its tail where the batch has it: nothing is copied. Valid as long
/// as the batch is lent.
@safe
struct EventVersion {
    private let epoch: UInt32
    private let commit: UInt64
    private let ordinal: UInt32
    private let tail: UnsafeRawBufferPointer

    init(epoch: UInt32, of event: Event, in view: BatchView) {
        self.epoch = epoch
        commit = event.commit
        ordinal = event.ordinal
        if let detail = view.detail(.tail, of: event) {
            unsafe tail = view.bytes(of: detail)
        } else {
            unsafe tail = UnsafeRawBufferPointer(start: nil, count: 0)
        }
    }

    /// - Parameter version: one without a tail.
    init(_ version: CacheVersion) {
        precondition(version.tail.isEmpty, "a version given to many rows is that of no event")
        epoch = version.epoch
        commit = version.commit
        ordinal = version.ordinal
        unsafe tail = UnsafeRawBufferPointer(start: nil, count: 0)
    }

    /// The bytes of its text.
    var count: Int { unsafe CacheVersion.digits + tail.count }

    /// The same, apart from the batch.
    fileprivate var kept: CacheVersion {
        CacheVersion(
            epoch: epoch, commit: commit, ordinal: ordinal,
            tail: unsafe String(decoding: tail, as: UTF8.self))
    }

    fileprivate func append(to writer: inout JSONWriter) {
        writer.appendHex(UInt64(epoch), digits: 8, uppercase: true)
        writer.appendHex(commit, digits: 16, uppercase: true)
        writer.appendHex(UInt64(ordinal), digits: 8, uppercase: true)
        unsafe writer.append(raw: tail)
    }
}

extension JSONWriter {
    /// Appends the version's digits.
    mutating func append(_ version: EventVersion) { version.append(to: &self) }
}
