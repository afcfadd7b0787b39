/// 10 to the power of the index.
private let powersOfTen: InlineArray<9, Double> = [1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8]

extension JSONWriter {
    /// Appends the fewest digits that are read back as the same finite number, and always a point
    /// or an exponent: `1.0`, `-0.0`, `129.95`, `5e-324`.
    package mutating func appendShortest(_ number: Double) {
        let magnitude = number.magnitude
        if magnitude < 0x1p53 {
            let whole = UInt64(magnitude)
            if Double(whole) == magnitude {
                if number.sign == .minus { append(ASCII.minus) }
                appendDecimal(whole)
                return append(".0")
            }
            if magnitude > 1e-3, magnitude < 1e9, appendFewDecimals(number) { return }
        }
        var digits = Digits()
        number.write(to: &digits)
        reserve(digits.count)
        for index in 0..<digits.count { append(digits.bytes[index]) }
    }

    /// Appends the number if up to eight decimals are enough for it, as they mostly are.
    ///
    /// `units` and the power of ten are exact, and a division of exact numbers is rounded as
    /// reading the decimal text is: if it gives the number back, so does the text. There is at most
    /// one candidate for a count of decimals, since units below 2^50 are further apart than the
    /// numbers around them; the first count that works has the fewest digits.
    private mutating func appendFewDecimals(_ number: Double) -> Bool {
        let magnitude = number.magnitude
        var decimals = 1
        while decimals < powersOfTen.count {
            let power = powersOfTen[decimals]
            let scaled = magnitude * power
            guard scaled < 0x1p50 else { return false }
            let units = UInt64(scaled + 0.5)
            let rounded = Double(units)
            // The product is off by two roundings at most; only then is a division worth its time.
            if (scaled - rounded).magnitude <= rounded * 0x1p-51, rounded / power == magnitude {
                if number < 0 { append(ASCII.minus) }
                let (whole, fraction) = units.quotientAndRemainder(dividingBy: UInt64(power))
                appendDecimal(whole)
                append(ASCII.dot)
                appendDecimal(fraction, digitsMin: decimals)
                return true
            }
            decimals += 1
        }
        return false
    }
}

/// The text of one number, without a `String` on the heap.
private struct Digits: TextOutputStream {
    var bytes = InlineArray<32, UInt8>(repeating: 0)
    var count = 0

    mutating func write(_ string: String) {
        for byte in string.utf8 { append(byte) }
    }

    /// The standard library lends a number's digits here; its default makes a string of them.
    mutating func _writeASCII(_ buffer: UnsafeBufferPointer<UInt8>) {
        for index in buffer.indices { append(unsafe buffer[index]) }
    }

    private mutating func append(_ byte: UInt8) {
        bytes[count] = byte
        count += 1
    }
}
