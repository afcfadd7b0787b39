import WeirCore
import WeirJSON

/// How new the value of a key is: epoch, commit and ordinal of its change as 32 upper-case hex
/// digits, so that comparing text compares versions. Numbers in Lua are doubles and would lose the
/// low digits.
struct CacheVersion: Sendable, Equatable, Comparable {
    let epoch: UInt32
    let commit: UInt64
    let ordinal: UInt32

    static let digits = 32

    init(epoch: UInt32, commit: UInt64, ordinal: UInt32) {
        self.epoch = epoch
        self.commit = commit
        self.ordinal = ordinal
    }

    /// The version right behind it. A change that has this very version belongs to the same
    /// transaction, so a row read after that was visible holds it already.
    var next: CacheVersion {
        CacheVersion(epoch: epoch, commit: commit, ordinal: ordinal &+ 1)
    }

    init(epoch: UInt32, of event: Event) {
        self.init(epoch: epoch, commit: event.commit, ordinal: event.ordinal)
    }

    /// Of a key that Weir has not written.
    static let none = CacheVersion(epoch: 0, commit: 0, ordinal: 0)

    /// Older than every change of the epoch.
    static func start(of epoch: UInt32) -> CacheVersion {
        CacheVersion(epoch: epoch, commit: 0, ordinal: 0)
    }

    /// Nil when the text is no version.
    init?(parsing text: some StringProtocol) {
        let digits = text.utf8
        guard digits.count == Self.digits,
            digits.allSatisfy({
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || (UInt8(ascii: "A")...UInt8(ascii: "F")).contains($0)
            })
        else { return nil }
        let commit = text.index(text.startIndex, offsetBy: 8)
        let ordinal = text.index(commit, offsetBy: 16)
        guard let epochNumber = UInt32(text[..<commit], radix: 16),
            let commitNumber = UInt64(text[commit..<ordinal], radix: 16),
            let ordinalNumber = UInt32(text[ordinal...], radix: 16)
        else { return nil }
        self.init(epoch: epochNumber, commit: commitNumber, ordinal: ordinalNumber)
    }

    var text: String {
        Self.hex(UInt64(epoch), 8) + Self.hex(commit, 16) + Self.hex(UInt64(ordinal), 8)
    }

    private static func hex(_ number: UInt64, _ digits: Int) -> String {
        let text = String(number, radix: 16, uppercase: true)
        return String(repeating: "0", count: digits - text.utf8.count) + text
    }

    static func < (left: CacheVersion, right: CacheVersion) -> Bool {
        (left.epoch, left.commit, left.ordinal) < (right.epoch, right.commit, right.ordinal)
    }
}

extension JSONWriter {
    /// Appends the version's digits.
    mutating func append(_ version: CacheVersion) {
        appendHex(UInt64(version.epoch), digits: 8, uppercase: true)
        appendHex(version.commit, digits: 16, uppercase: true)
        appendHex(UInt64(version.ordinal), digits: 8, uppercase: true)
    }
}
