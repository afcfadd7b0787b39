// Well-formed UTF-8 as Unicode defines it (The Unicode Standard, table 3-7):
//
//     first      second     third      fourth
//     00..7F
//     C2..DF     80..BF                            C0, C1 would be overlong
//     E0         A0..BF     80..BF                 below A0 would be overlong
//     E1..EC     80..BF     80..BF
//     ED         80..9F     80..BF                 above 9F would be a surrogate
//     EE..EF     80..BF     80..BF
//     F0         90..BF     80..BF     80..BF      below 90 would be overlong
//     F1..F3     80..BF     80..BF     80..BF
//     F4         80..8F     80..BF     80..BF      above 8F would be beyond U+10FFFF

/// True if the bytes are well-formed UTF-8: no surrogates, nothing overlong, nothing cut off.
///
/// - Complexity: O(bytes); runs of ASCII are checked 8 bytes at a time.
package func isValidUTF8(_ bytes: UnsafeRawBufferPointer) -> Bool {
    unsafe firstInvalidUTF8Offset(in: bytes) == nil
}

/// The offset of the first byte that is not part of a well-formed sequence; nil if there is none.
func firstInvalidUTF8Offset(in bytes: UnsafeRawBufferPointer) -> Int? {
    guard let base = bytes.baseAddress else { return nil }
    let count = bytes.count
    var offset = 0
    while offset < count {
        if count - offset >= 8 {
            let word = unsafe base.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            let marks = UInt64(littleEndian: word) & 0x8080_8080_8080_8080
            if marks == 0 {
                offset += 8
                continue
            }
            offset += marks.trailingZeroBitCount >> 3
        }
        let length = unsafe utf8SequenceLength(base + offset, available: count - offset)
        guard length > 0 else { return offset }
        offset += length
    }
    return nil
}

/// The length of the well-formed sequence at `start`, where at least one byte is available; 0 if
/// there is none.
@inline(__always)
private func utf8SequenceLength(_ start: UnsafeRawPointer, available: Int) -> Int {
    let first = unsafe start.load(as: UInt8.self)
    if first < 0x80 { return 1 }
    let length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
    guard first >= 0xC2, first <= 0xF4, length <= available else { return 0 }
    let second = unsafe start.load(fromByteOffset: 1, as: UInt8.self)
    let low: UInt8 = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80
    let high: UInt8 = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF
    guard second >= low, second <= high else { return 0 }
    var index = 2
    while index < length {
        let next = unsafe start.load(fromByteOffset: index, as: UInt8.self)
        guard next & 0xC0 == 0x80 else { return 0 }
        index += 1
    }
    return length
}
