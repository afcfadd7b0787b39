import WeirCore

/// What the checkpoint keeps: the length, which file it is the length of, and what ends there.
struct FileMark {
    let length: Int
    /// Nil in a mark of earlier versions, as `digest` and `path`.
    let inode: UInt64?
    /// Of the bytes before `length`: a file that was written anew may be longer.
    let digest: UInt64?
    /// A hash of the configured path.
    let path: UInt64?

    init(length: Int, inode: UInt64, tail: FileTail, path: String) {
        self.length = length
        self.inode = inode
        digest = tail.digest
        self.path = Self.hash(of: path)
    }

    /// A text that is no mark counts on more than any file has.
    init(parsing text: String) {
        let words = text.split(separator: " ")
        length = words.first.flatMap { Int($0) } ?? .max
        inode = words.count > 1 ? UInt64(words[1]) : nil
        digest = words.count > 2 ? UInt64(words[2], radix: 16) : nil
        path = words.count > 3 ? UInt64(words[3], radix: 16) : nil
    }

    var sinkMark: SinkMark {
        let hashes = [digest, path].compactMap { $0.map { String($0, radix: 16) } }
        return SinkMark(
            (["\(length)"] + (inode.map { ["\($0)"] } ?? []) + hashes).joined(separator: " "))
    }

    static func hash(of path: String) -> UInt64 {
        var hash = FNV1a()
        for byte in path.utf8 { hash.mix(byte) }
        return hash.value
    }
}

/// The last bytes up to a place in the file: they tell lines of ours from what another program
/// wrote there.
struct FileTail: Equatable {
    /// A few lines, each with a position or a row of its own.
    static let bytesMax = 4096

    private(set) var bytes: [UInt8] = []

    mutating func append(_ more: UnsafeRawBufferPointer) {
        if more.count >= Self.bytesMax {
            bytes = unsafe Array(more.suffix(Self.bytesMax))
            return
        }
        bytes.removeFirst(max(0, bytes.count + more.count - Self.bytesMax))
        unsafe bytes.append(contentsOf: more)
    }

    init() {}

    /// - Parameter bytes: at most `bytesMax`.
    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var digest: UInt64 {
        var hash = FNV1a()
        for byte in bytes { hash.mix(byte) }
        return hash.value
    }
}

/// http://www.isthe.com/chongo/tech/comp/fnv/, 64 bits. Nothing is protected by it.
private struct FNV1a {
    private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

    mutating func mix(_ byte: UInt8) {
        value = (value ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
    }
}
