import Foundation
import Glibc
import WeirTesting

/// A file that a measured program wrote.
struct OutputFile: Sendable {
    let path: String

    var bytes: Double {
        var facts = stat()
        return unsafe stat(path, &facts) == 0 ? Double(facts.st_size) : 0
    }

    /// How long it takes until the disk holds all of it.
    func syncSeconds() throws -> Double {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw TestingError("could not open \"\(path)\"") }
        defer { close(file) }
        let start = ContinuousClock.now
        guard fsync(file) == 0 else { throw TestingError("could not fsync \"\(path)\"") }
        return (ContinuousClock.now - start).inSeconds
    }

    func lineCount() throws -> Int {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw TestingError("could not open \"\(path)\"") }
        defer { close(file) }
        var chunk = [UInt8](repeating: 0, count: 1 << 20)
        var lines = 0
        while true {
            let count = unsafe read(file, &chunk, chunk.count)
            guard count >= 0 else { throw TestingError("could not read \"\(path)\"") }
            if count == 0 { return lines }
            for byte in chunk[..<count] where byte == UInt8(ascii: "\n") { lines += 1 }
        }
    }

    /// Without its line end; empty for an empty file.
    func lastLine() throws -> String {
        let data = try Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped)
        let lines = data.dropLast()
        let start = lines.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? lines.startIndex
        return String(decoding: lines[start...], as: UTF8.self)
    }

    /// The rows in what `pg_recvlogical` wrote with the plugin pgoutput.
    func pgOutputChangeCount() throws -> Int {
        let data = try Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped)
        var walk = PgOutputWalk()
        return try walk.changeCount(data.span)
    }

    func remove() { unsafe unlink(path) }
}

/// Steps over messages of pgoutput version 1, each followed by a line end. They are binary, so
/// counting line ends would not do.
///
///     B  final LSN 8, time 8, xid 4          C  flags 1, LSN 8, end LSN 8, time 8
///     I  oid 4, "N", row     U  oid 4, ["K" or "O", row], "N", row     D  oid 4, "K" or "O", row
///     R  oid 4, schema 0, name 0, identity 1, columns 2, each: flags 1, name 0, type 4, mod 4
///     row: columns 2, each: "n" or "u", or "t" with length 4 and bytes
private struct PgOutputWalk {
    private var offset = 0

    mutating func changeCount(_ bytes: Span<UInt8>) throws -> Int {
        var changes = 0
        while offset < bytes.count {
            let kind = bytes[offset]
            offset += 1
            switch kind {
            case UInt8(ascii: "B"): offset += 20
            case UInt8(ascii: "C"): offset += 25
            case UInt8(ascii: "R"): skipRelation(bytes)
            case UInt8(ascii: "I"), UInt8(ascii: "U"), UInt8(ascii: "D"):
                offset += 4
                // An update with an old row has two rows, the new one last.
                while offset < bytes.count, bytes[offset] != UInt8(ascii: "\n") {
                    offset += 1
                    skipRow(bytes)
                }
                changes += 1
            default:
                throw TestingError("pg_recvlogical wrote a message \"\(kind)\" at \(offset - 1)")
            }
            guard offset < bytes.count, bytes[offset] == UInt8(ascii: "\n") else {
                throw TestingError("pg_recvlogical's output does not parse at \(offset)")
            }
            offset += 1
        }
        return changes
    }

    private mutating func skipRelation(_ bytes: Span<UInt8>) {
        offset += 4
        skipName(bytes)
        skipName(bytes)
        offset += 1
        for _ in 0..<integer(bytes, 2) {
            offset += 1
            skipName(bytes)
            offset += 8
        }
    }

    private mutating func skipRow(_ bytes: Span<UInt8>) {
        for _ in 0..<integer(bytes, 2) {
            let form = bytes[offset]
            offset += 1
            if form == UInt8(ascii: "t") { offset += integer(bytes, 4) }
        }
    }

    private mutating func skipName(_ bytes: Span<UInt8>) {
        while bytes[offset] != 0 { offset += 1 }
        offset += 1
    }

    private mutating func integer(_ bytes: Span<UInt8>, _ size: Int) -> Int {
        var value = 0
        for _ in 0..<size {
            value = value << 8 | Int(bytes[offset])
            offset += 1
        }
        return value
    }
}
