import CLibMongoC
import Foundation
import WeirJSON
import WeirValues

/// Bytes whose neighbours cannot be read: a step to either side ends the process.
@safe
final class FencedBytes {
    private let base: UnsafeMutableRawPointer
    private let size: Int
    let bytes: UnsafeRawBufferPointer

    /// - Parameter atEnd: whether the fence is right behind the bytes, or right before them.
    init(_ content: [UInt8], atEnd: Bool = true) {
        let page = sysconf(Int32(_SC_PAGESIZE))
        let inner = max(1, (content.count + page - 1) / page) * page
        size = inner + 2 * page
        let flags = MAP_PRIVATE | MAP_ANONYMOUS
        guard let base = unsafe mmap(nil, size, PROT_NONE, flags, -1, 0), unsafe base != MAP_FAILED,
            unsafe mprotect(base + page, inner, PROT_READ | PROT_WRITE) == 0
        else { preconditionFailure("no memory") }
        unsafe self.base = unsafe base
        let start = unsafe base + page + (atEnd ? inner - content.count : 0)
        unsafe content.withUnsafeBytes { source in
            if let address = source.baseAddress {
                unsafe start.copyMemory(from: address, byteCount: content.count)
            }
        }
        unsafe bytes = UnsafeRawBufferPointer(start: start, count: content.count)
    }

    deinit { unsafe munmap(base, size) }
}

/// The bytes that hexadecimal digits stand for.
func unhex(_ text: String) -> [UInt8] {
    let digits = text.compactMap(\.hexDigitValue)
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

func hexDigits(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

/// The bytes of a number as BSON holds them.
func littleEndianBytes(_ number: some FixedWidthInteger) -> [UInt8] {
    (0..<(number.bitWidth / 8)).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
}

/// One member: a type, a name and the bytes of a value.
func element(_ type: BSONType, _ name: String = "v", _ value: [UInt8]) -> [UInt8] {
    [type.rawValue] + Array(name.utf8) + [0] + value
}

/// A document of such members.
func document(_ elements: [[UInt8]]) -> [UInt8] {
    let body = elements.flatMap { $0 }
    return littleEndianBytes(Int32(body.count + 5)) + body + [0]
}

/// The value of a string, a code or a symbol.
func stringValue(_ text: [UInt8]) -> [UInt8] {
    littleEndianBytes(Int32(text.count + 1)) + text + [0]
}

func stringValue(_ text: String) -> [UInt8] { stringValue(Array(text.utf8)) }

/// The JSON of a document.
func rendered(
    _ document: [UInt8], _ mode: DocumentMode
) -> (json: String, note: ValueRenderer.Note) {
    rendered(.document, document, mode)
}

/// The JSON of a value; the writer holds something before it.
func rendered(
    _ type: BSONType, _ value: [UInt8], _ mode: DocumentMode
) -> (json: String, note: ValueRenderer.Note) {
    let fenced = FencedBytes(value)
    var writer = JSONWriter(capacity: 1)
    writer.append("=")
    let note = unsafe BSONRenderer(mode).append(type, fenced.bytes, into: &writer)
    return (String(writer.text.dropFirst()), note)
}

/// The plain text of a value; nil for null.
func plainText(_ type: BSONType, _ value: [UInt8], _ mode: DocumentMode = .relaxed) -> String? {
    let fenced = FencedBytes(value)
    var writer = JSONWriter(capacity: 1)
    let outcome = unsafe BSONRenderer(mode).appendPlain(type, fenced.bytes, into: &writer)
    guard case .written = outcome else { return writer.isEmpty ? nil : "null with text" }
    return writer.text
}

/// A document in the hands of libbson, which says how it should look.
@safe
final class LibraryDocument {
    let pointer: OpaquePointer

    init() { unsafe pointer = bson_new() }

    init?(_ bytes: [UInt8]) {
        guard let made = unsafe bson_new_from_data(bytes, bytes.count) else { return nil }
        unsafe pointer = made
    }

    init?(json: String) {
        var json = json
        let made = json.withUTF8 { unsafe bson_new_from_json($0.baseAddress, $0.count, nil) }
        guard let made = unsafe made else { return nil }
        unsafe pointer = made
    }

    deinit { unsafe bson_destroy(pointer) }

    var bytes: [UInt8] {
        unsafe Array(
            UnsafeBufferPointer(start: bson_get_data(pointer), count: weir_bson_length(pointer)))
    }

    /// Without the blanks between tokens; nil where libbson refuses the bytes.
    var relaxed: String? { unsafe Self.compact(bson_as_relaxed_extended_json(pointer, nil)) }
    var canonical: String? { unsafe Self.compact(bson_as_canonical_extended_json(pointer, nil)) }

    private static func compact(_ text: UnsafeMutablePointer<CChar>?) -> String? {
        guard let text = unsafe text else { return nil }
        defer { unsafe bson_free(text) }
        var compact: [UInt8] = []
        var isInString = false
        var isEscaped = false
        for byte in unsafe String(cString: text).utf8 {
            if isInString || byte != UInt8(ascii: " ") { compact.append(byte) }
            if byte == UInt8(ascii: "\""), !isEscaped { isInString.toggle() }
            isEscaped = byte == UInt8(ascii: "\\") && !isEscaped
        }
        return String(decoding: compact, as: UTF8.self)
    }
}
