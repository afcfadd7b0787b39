/// A place in PostgreSQL's write-ahead log, in bytes from its beginning.
package struct LSN: Sendable, Hashable, Comparable, CustomStringConvertible {
    package let value: UInt64

    /// More than any log has. No server gets here, and differences of smaller ones fit `Int64`.
    package static let max = LSN(UInt64(Int64.max))

    package init(_ value: UInt64) { self.value = value }

    /// The place right behind, where reading goes on without what was committed here.
    package var next: LSN { LSN(value &+ 1) }

    /// PostgreSQL's notation, `16/B374D848`.
    package init?(parsing text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, (1...8).contains(parts[0].utf8.count),
            (1...8).contains(parts[1].utf8.count),
            let high = UInt32(parts[0], radix: 16), let low = UInt32(parts[1], radix: 16)
        else { return nil }
        value = UInt64(high) << 32 | UInt64(low)
        guard self <= Self.max else { return nil }
    }

    package static func < (left: LSN, right: LSN) -> Bool { left.value < right.value }

    package var description: String {
        String(value >> 32, radix: 16, uppercase: true) + "/"
            + String(value & 0xFFFF_FFFF, radix: 16, uppercase: true)
    }
}
