// Eight bytes at a time: a word holds one in each of its lanes.

/// One byte value in all eight lanes of a word.
@inline(__always)
func lanes(_ byte: UInt8) -> UInt64 { UInt64(byte) &* 0x0101_0101_0101_0101 }

/// The number of the lane, 0...7, of the lowest mark.
@inline(__always)
func firstLane(_ marks: UInt64) -> Int { marks.trailingZeroBitCount >> 3 }

/// The lower four bits of each lane as a lower-case hexadecimal digit; the upper four must be 0.
@inline(__always)
func hexDigits(_ nibbles: UInt64) -> UInt64 {
    let isLetter = ((nibbles &+ lanes(6)) >> 4) & lanes(1)
    return nibbles &+ lanes(ASCII.zero) &+ isLetter &* 39
}

/// Whether each lane holds a hexadecimal digit, of either case.
@inline(__always)
private func isHex(_ word: UInt64) -> Bool {
    guard word & lanes(0x80) == 0 else { return false }
    // Below 0x80, no addition carries into the next lane.
    let letters = word | lanes(0x20)
    let isDigit = (word &+ lanes(0x80 - 0x30)) & ~(word &+ lanes(0x80 - 0x3A))
    let isLetter = (letters &+ lanes(0x80 - 0x61)) & ~(letters &+ lanes(0x80 - 0x67))
    return (isDigit | isLetter) & lanes(0x80) == lanes(0x80)
}

/// Whether all of it is hexadecimal digits, of either case.
package func isHex(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var index = 0
    while bytes.count - index >= 8 {
        let word = unsafe bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        guard isHex(word) else { return false }
        index += 8
    }
    while index < bytes.count {
        guard isHex(lanes(unsafe bytes[index])) else { return false }
        index += 1
    }
    return true
}
