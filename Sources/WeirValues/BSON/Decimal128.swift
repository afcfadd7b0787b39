import WeirJSON

/// The parts of an IEEE 754 decimal128 in its binary-integer encoding, as BSON holds it.
///
/// https://github.com/mongodb/specifications/blob/master/source/bson-decimal128/decimal128.md
struct Decimal128Bits {
    enum Kind {
        case finite, infinity, nan
    }

    let isNegative: Bool
    let kind: Kind
    /// At most 34 digits; an encoding of more stands for 0.
    let significand: UInt128
    let exponent: Int

    private static let bias = 6176
    private static let significandMax: UInt128 = 9_999_999_999_999_999_999_999_999_999_999_999

    /// - Parameter bytes: sixteen.
    init(_ bytes: UnsafeRawBufferPointer) {
        let low = unsafe bytes.loadUnaligned(as: UInt64.self)
        let high = unsafe bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        isNegative = high >> 63 == 1
        // The five bits behind the sign say what the others are.
        let combination = high >> 58 & 0x1F
        if combination == 0x1F || combination == 0x1E {
            kind = combination == 0x1F ? .nan : .infinity
            significand = 0
            exponent = 0
            return
        }
        kind = .finite
        if combination >> 3 == 3 {
            // More bits than 34 digits can need: never canonical.
            exponent = Int(high >> 47 & 0x3FFF) - Self.bias
            significand = 0
        } else {
            exponent = Int(high >> 49 & 0x3FFF) - Self.bias
            let digits = UInt128(high & 0x1_FFFF_FFFF_FFFF) << 64 | UInt128(low)
            significand = digits > Self.significandMax ? 0 : digits
        }
    }
}

extension JSONWriter {
    /// Appends a decimal as MongoDB writes it: every digit it has, in scientific notation where it
    /// is very small or has a positive exponent.
    mutating func append(decimal128 number: Decimal128Bits) {
        switch number.kind {
        case .nan: return append("NaN")
        case .infinity: return append(number.isNegative ? "-Infinity" : "Infinity")
        case .finite: break
        }
        if number.isNegative { append(UInt8(ascii: "-")) }
        let start = count
        append(digits: number.significand)
        let digitCount = count - start
        let scientific = digitCount - 1 + number.exponent
        if number.exponent > 0 || scientific < -6 {
            if digitCount > 1 { insert(UInt8(ascii: "."), at: start + 1) }
            append(UInt8(ascii: "E"))
            append(UInt8(ascii: scientific < 0 ? "-" : "+"))
            appendDecimal(UInt64(scientific.magnitude))
        } else if number.exponent < 0 {
            let point = digitCount + number.exponent
            if point > 0 {
                insert(UInt8(ascii: "."), at: start + point)
            } else {
                for _ in 0..<(-point) { insert(UInt8(ascii: "0"), at: start) }
                insert(UInt8(ascii: "."), at: start)
                insert(UInt8(ascii: "0"), at: start)
            }
        }
    }

    private mutating func append(digits number: UInt128) {
        // Two halves of at most 19 and 15 digits.
        let tenTo19: UInt128 = 10_000_000_000_000_000_000
        let (upper, lower) = number.quotientAndRemainder(dividingBy: tenTo19)
        if upper == 0 { return appendDecimal(UInt64(lower)) }
        appendDecimal(UInt64(upper))
        appendDecimal(UInt64(lower), digitsMin: 19)
    }
}
