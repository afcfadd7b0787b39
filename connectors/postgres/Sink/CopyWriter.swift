import WeirCore
import WeirJSON
import WeirPostgresClient
import WeirValues

/// Writes rows in the text format of COPY.
///
/// https://www.postgresql.org/docs/current/sql-copy.html, "Text Format"
struct CopyWriter: ~Copyable {
    private var bytes = JSONWriter(capacity: 80 << 10)
    private var texts = OutputText()

    /// Rows go to the server whenever this much has gathered.
    static let chunkBytes = 64 << 10

    var isFull: Bool { bytes.count >= Self.chunkBytes }
    var isEmpty: Bool { bytes.isEmpty }

    /// Memory of a huge row is given back.
    mutating func removeAll() {
        if bytes.count > Self.keptBytes {
            bytes = JSONWriter(capacity: 80 << 10)
        } else {
            bytes.removeAll()
        }
    }

    private static let keptBytes = 1 << 20

    borrowing func withBytes<R, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> R
    ) throws(Failure) -> R {
        try unsafe bytes.withBytes(body)
    }

    /// Appends a row image.
    mutating func append(_ references: [FieldReference], of image: Slice, in batch: BatchView) {
        for index in references.indices {
            let column = references[index].column
            append(references[index], Int(image.start) + column, in: batch)
            bytes.append(
                index == references.count - 1 ? UInt8(ascii: "\n") : UInt8(ascii: "\t"))
        }
    }

    /// Appends a row that was put together.
    mutating func append(
        _ references: [FieldReference], _ cells: ArraySlice<Cell>, in batches: [EventBatch]
    ) {
        var place = cells.startIndex
        for index in references.indices {
            let cell = cells[place]
            let batch = batches[Int(cell.batch)]
            batch.withView { view in
                append(references[index], Int(cell.value), in: view)
            }
            place += 1
            bytes.append(
                index == references.count - 1 ? UInt8(ascii: "\n") : UInt8(ascii: "\t"))
        }
    }

    private mutating func append(_ source: FieldReference, _ value: Int, in batch: BatchView) {
        let found = batch.value(at: value)
        switch found.form {
        case .null, .unchanged: bytes.append("\\N")
        case .text where source.isWholeColumn, .binary where source.isWholeColumn:
            let text = unsafe batch.bytes(of: found)
            // With room for what follows: the buffer would else be doubled for a line end.
            if text.count > Self.keptBytes { bytes.reserve(text.count + Self.chunkBytes) }
            unsafe bytes.append(copyText: text)
        case .text, .binary, .bson, .bsonKey:
            if texts.render(source, value, in: batch) {
                texts.append(to: &bytes)
            } else {
                bytes.append("\\N")
            }
        }
    }
}

/// Renders the values that are found by a path, and documents.
struct OutputText: ~Copyable {
    private var plain = PlainRenderer()
    private var scratch = JSONWriter(capacity: 256)

    /// Whether there is a value; it is then what `append` appends.
    ///
    /// - Parameter value: the place of the column's value in the batch.
    mutating func render(_ source: FieldReference, _ value: Int, in batch: BatchView) -> Bool {
        if scratch.count > Self.keptBytes {
            scratch = JSONWriter(capacity: 256)
        } else {
            scratch.removeAll()
        }
        let image = Slice(start: value - source.column, count: source.column + 1)
        switch plain.append(source, of: image, in: batch, into: &scratch) {
        case .written: return true
        case .null, .absent, .unchanged: return false
        }
    }

    private static let keptBytes = 1 << 20

    borrowing func append(to bytes: inout [UInt8]) {
        unsafe scratch.withBytes { text in unsafe bytes.append(contentsOf: text) }
    }

    borrowing func append(to writer: inout JSONWriter) {
        unsafe scratch.withBytes { text in unsafe writer.append(copyText: text) }
    }

    borrowing func append(to parameters: inout StatementParameters) {
        unsafe scratch.withBytes { text in unsafe parameters.append(text) }
    }
}

extension JSONWriter {
    /// A backslash, a tab and line ends are escaped; everything else stands for itself.
    mutating func append(copyText text: UnsafeRawBufferPointer) {
        var start = 0
        var index = 0
        while index < text.count {
            // Eight bytes at a time: below 0x0E or a backslash somewhere?
            while index + 8 <= text.count {
                let word = unsafe text.loadUnaligned(fromByteOffset: index, as: UInt64.self)
                if Self.mayNeedEscape(word) { break }
                index += 8
            }
            let end = min(index + 8, text.count)
            while index < end {
                let byte = unsafe text[index]
                if let escape = Self.escape(byte) {
                    unsafe append(raw: UnsafeRawBufferPointer(rebasing: text[start..<index]))
                    append(UInt8(ascii: "\\"))
                    append(escape)
                    start = index + 1
                }
                index += 1
            }
        }
        unsafe append(raw: UnsafeRawBufferPointer(rebasing: text[start..<text.count]))
    }

    private static func escape(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "\\"): UInt8(ascii: "\\")
        case UInt8(ascii: "\t"): UInt8(ascii: "t")
        case UInt8(ascii: "\n"): UInt8(ascii: "n")
        case UInt8(ascii: "\r"): UInt8(ascii: "r")
        default: nil
        }
    }

    @inline(__always)
    private static func mayNeedEscape(_ word: UInt64) -> Bool {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highs: UInt64 = 0x8080_8080_8080_8080
        let low = (word &- ones &* 0x0E) & ~word & highs
        let other = word ^ (ones &* 0x5C)
        let backslash = (other &- ones) & ~other & highs
        return low | backslash != 0
    }
}
