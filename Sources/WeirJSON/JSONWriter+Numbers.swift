extension JSONWriter {
    /// Appends a number in decimal.
    package mutating func appendDecimal(_ value: UInt64) {
        appendDecimal(value, digitsMin: 1)
    }

    /// Appends a number in decimal, with `-` if negative.
    package mutating func appendDecimal(_ value: Int64) {
        if value < 0 { append(ASCII.minus) }
        appendDecimal(value.magnitude, digitsMin: 1)
    }

    /// Appends the lowest `digits` hexadecimal digits of a number, zeros in front included.
    package mutating func appendHex(_ value: UInt64, digits: Int, uppercase: Bool) {
        reserve(max(digits, 0))
        let letterOffset: UInt8 = uppercase ? 7 : 39
        var shift = (digits - 1) * 4
        while shift >= 0 {
            // Swift's `>>` gives 0 for shifts of 64 and more: digits beyond 16 are zeros.
            let nibble = UInt8(truncatingIfNeeded: value >> UInt64(shift)) & 0x0F
            append(ASCII.zero + nibble + (nibble > 9 ? letterOffset : 0))
            shift -= 4
        }
    }

    /// Appends a number in decimal, with zeros in front up to `digitsMin` digits.
    package mutating func appendDecimal(_ value: UInt64, digitsMin: Int) {
        var digits = 1
        var rest = value / 10
        while rest > 0 {
            digits += 1
            rest /= 10
        }
        digits = max(digits, digitsMin)
        reserve(digits)
        rest = value
        var offset = used + digits
        while offset > used {
            offset -= 1
            let digit = ASCII.zero + UInt8(truncatingIfNeeded: rest % 10)
            unsafe base.storeBytes(of: digit, toByteOffset: offset, as: UInt8.self)
            rest /= 10
        }
        used += digits
    }
}
