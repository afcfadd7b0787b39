import CLibMongoC
import Testing
import WeirTesting
import WeirValues

struct BSONDecimalTests {
    /// The sixteen bytes and their digits, from the specification's corpus.
    static let corpus: [(bytes: String, digits: String)] = [
        ("0000000000000000000000000000007C", "NaN"),
        ("000000000000000000000000000000FC", "NaN"),
        ("0000000000000000000000000000007E", "NaN"),
        ("000000000000000000000000000000FE", "NaN"),
        ("1200000000000000000000000000007E", "NaN"),
        ("00000000000000000000000000000078", "Infinity"),
        ("000000000000000000000000000000F8", "-Infinity"),
        ("0000000000000000000000000000106C", "0"),
        ("DCBA9876543210DEADBEEF00000010EC", "-0"),
        ("FFFFFFFFFFFFFFFFFFFFFFFFFFFF116C", "0E+3"),
        ("F2AF967ED05C82DE3297FF6FDE3CF22F", "0.000001234567890123456789012345678901234"),
        ("D2040000000000000000000000003430", "0.001234"),
        ("40EF5A07000000000000000000002A30", "0.00123400000"),
        ("01000000000000000000000000003E30", "0.1"),
        ("F2AF967ED05C82DE3297FF6FDE3CFC2F", "0.1234567890123456789012345678901234"),
        ("00000000000000000000000000004030", "0"),
        ("000000000000000000000000000040B0", "-0"),
        ("00000000000000000000000000003EB0", "-0.0"),
        ("02000000000000000000000000004030", "2"),
        ("D0070000000000000000000000003A30", "2.000"),
        ("F2AF967ED05C82DE3297FF6FDE3C4030", "1234567890123456789012345678901234"),
        ("FFFFFFFF638E8D37C087ADBE09ED0100", "9.999999999999999999999999999999999E-6143"),
        ("01000000000000000000000000000000", "1E-6176"),
        ("01000000000000000000000000000080", "-1E-6176"),
        ("F2AF967ED05C82DE3297FF6FDE3CF02F", "1.234567890123456789012345678901234E-7"),
        ("64000000000000000000000000002CB0", "-1.00E-8"),
        ("0000000000000000000000000000205F", "0E+6000"),
        ("00000000000000000000000000007A2B", "0E-611"),
        ("01000000000000000000000000004630", "1E+3"),
        ("1A040000000000000000000000004230", "1.050E+4"),
        ("69000000000000000000000000004230", "1.05E+3"),
        ("FFFFFFFFFFFFFFFFFFFFFFFFFFFF4030", "5192296858534827628530496329220095"),
        ("000000000A5BC138938D44C64D31FE5F", "1.000000000000000000000000000000000E+6144"),
        ("FFFFFFFF638E8D37C087ADBE09EDFF5F", "9.999999999999999999999999999999999E+6144"),
        ("79D9E0F9763ADA429D02000000005830", "1.2345689012345789012345E+34"),
        ("01000000000000000000000000007228", "1E-999"),
        ("0A00000000000000000000000000FE5F", "1.0E+6112"),
        ("000000000A5BC138938D44C64D31CC37", "1.000000000000000000000000000000000E+999"),
        ("0000000000000000000000000000FE5F", "0E+6111"),
        ("00000000000000000000000000000000", "0E-6176"),
        ("0000000000000000000000000000FEDF", "-0E+6111"),
        ("00000000000000000000000000000080", "-0E-6176"),
        ("05000000000000000000000000003030", "5E-8"),
        ("05000000000000000000000000003630", "0.00005"),
        ("99761CC7B548F377DC80A131C836FE2F", "1.111111111111111111111111111112345"),
        ("0000000081EFAC855B416D2DEE040000", "1.00000000000000000000000000000000E-6144"),
        ("FFFFFFFF095BC138938D44C64D310080", "-9.99999999999999999999999999999999E-6144"),
        // 10^34 - 1 is the largest significand; one more stands for 0.
        ("FFFFFFFF638E8D37C087ADBE09ED4130", "9999999999999999999999999999999999"),
        ("00000000648E8D37C087ADBE09ED4130", "0"),
        ("FFFFFFFFFFFFFFFFFFFFFFFFFFFF4130", "0"),
    ]

    @Test(arguments: corpus)
    func digitsAreThoseOfTheCorpus(bytes: String, digits: String) {
        let value = unhex(bytes)
        let wrapped = "{\"$numberDecimal\":\"\(digits)\"}"
        #expect(rendered(.decimal128, value, .relaxed) == (wrapped, .none))
        #expect(rendered(.decimal128, value, .canonical) == (wrapped, .none))
        #expect(rendered(.decimal128, value, .plain) == ("\"\(digits)\"", .none))
        #expect(plainText(.decimal128, value) == digits)
    }

    /// Any sixteen bytes look as libbson says, but for significands between 10^34 and 2^113, which
    /// stand for 0 and which it prints.
    @Test func digitsAreThoseOfLibbson() {
        var generator = SeededGenerator(seed: 128)
        for _ in 0..<20_000 {
            // Of one to 113 bits, at exponents near 0 or anywhere.
            let significand =
                (UInt128(generator.next()) << 64 | UInt128(generator.next()))
                >> UInt128(15 + generator.below(113))
            if significand >= 10_000_000_000_000_000_000_000_000_000_000_000 { continue }
            let isNear = generator.below(2) == 0
            let biased = isNear ? 6176 - 45 + generator.below(60) : generator.below(12288)
            let bits =
                UInt128(generator.below(2)) << 127 | UInt128(biased) << 113 | significand
            let value = littleEndianBytes(bits)
            #expect(plainText(.decimal128, value) == libraryDigits(bits))
        }
        for _ in 0..<2000 {
            // The forms beyond: infinities, NaN and significands too large.
            let bits = UInt128(generator.next()) << 64 | UInt128(generator.next()) | 3 << 125
            #expect(plainText(.decimal128, littleEndianBytes(bits)) == libraryDigits(bits))
        }
    }

    private func libraryDigits(_ bits: UInt128) -> String {
        var value = bson_decimal128_t()
        value.low = UInt64(truncatingIfNeeded: bits)
        value.high = UInt64(truncatingIfNeeded: bits >> 64)
        var text = [CChar](repeating: 0, count: 64)
        unsafe bson_decimal128_to_string(&value, &text)
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init), as: UTF8.self)
    }
}
