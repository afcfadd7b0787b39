import Testing
import WeirJSON
import WeirValues

/// A value, and how it looks in each way.
struct BSONLook: CustomTestStringConvertible, Sendable {
    let type: BSONType
    let value: [UInt8]
    let relaxed: String
    let canonical: String
    let plain: String
    /// Nil for null.
    let text: String?

    var testDescription: String { canonical }
}

private let id = unhex("655c1f7e9d3b2a0012345678")
private let uuid = unhex("73ffd26444b34c6990e8e7d1dfc035d4")

private func look(
    _ type: BSONType, _ value: [UInt8], _ relaxed: String, _ canonical: String? = nil,
    plain: String? = nil, text: String?
) -> BSONLook {
    BSONLook(
        type: type, value: value, relaxed: relaxed, canonical: canonical ?? relaxed,
        plain: plain ?? relaxed, text: text)
}

private func number(_ value: Double, _ digits: String) -> BSONLook {
    look(
        .double, littleEndianBytes(value.bitPattern), digits, #"{"$numberDouble":"\#(digits)"}"#,
        // Alone, a whole number is written as every whole number is.
        text: digits == "-0.0"
            ? "0" : digits.hasSuffix(".0") ? String(digits.dropLast(2)) : digits)
}

private func odd(_ value: Double, _ name: String) -> BSONLook {
    let wrapped = #"{"$numberDouble":"\#(name)"}"#
    return look(
        .double, littleEndianBytes(value.bitPattern), wrapped, plain: "\"\(name)\"", text: name)
}

private func date(_ millis: Int64, relaxed: String?, _ text: String) -> BSONLook {
    let canonical = #"{"$date":{"$numberLong":"\#(millis)"}}"#
    return look(
        .dateTime, littleEndianBytes(millis), relaxed.map { #"{"$date":"\#($0)"}"# } ?? canonical,
        canonical, plain: "\"\(text)\"", text: text)
}

private func binary(_ subtype: UInt8, _ bytes: [UInt8], _ base64: String, plain: String) -> BSONLook
{
    let digits = hexDigits([subtype])
    let shown = subtype == 2 ? littleEndianBytes(Int32(bytes.count)) + bytes : bytes
    return look(
        .binary, littleEndianBytes(Int32(shown.count)) + [subtype] + shown,
        #"{"$binary":{"base64":"\#(base64)","subType":"\#(digits)"}}"#, plain: "\"\(plain)\"",
        text: plain)
}

private func text(_ type: BSONType, _ name: String, _ value: String) -> BSONLook {
    look(
        type, stringValue(value), #"{"\#(name)":"\#(value)"}"#, plain: "\"\(value)\"", text: value)
}

struct BSONRendererTests {
    static let common: [BSONLook] = [
        look(.string, stringValue("näh\t"), #""näh\t""#, text: "näh\t"),
        look(.bool, [0], "false", text: "false"), look(.bool, [1], "true", text: "true"),
        look(.bool, [2], "true", text: "true"),
        look(.null, [], "null", text: nil),
        look(.int32, littleEndianBytes(Int32(0)), "0", #"{"$numberInt":"0"}"#, text: "0"),
        look(
            .int32, littleEndianBytes(Int32.min), "-2147483648", #"{"$numberInt":"-2147483648"}"#,
            text: "-2147483648"),
        look(
            .int64, littleEndianBytes(Int64.min), "-9223372036854775808",
            #"{"$numberLong":"-9223372036854775808"}"#, plain: #""-9223372036854775808""#,
            text: "-9223372036854775808"),
        look(
            .int64, littleEndianBytes(Int64(7)), "7", #"{"$numberLong":"7"}"#, plain: #""7""#,
            text: "7"),
        look(
            .objectId, id, #"{"$oid":"655c1f7e9d3b2a0012345678"}"#,
            plain: #""655c1f7e9d3b2a0012345678""#, text: "655c1f7e9d3b2a0012345678"),
        look(
            .document, document([element(.int32, "a", [1, 0, 0, 0])]), #"{"a":1}"#,
            #"{"a":{"$numberInt":"1"}}"#, text: #"{"a":1}"#),
        look(.array, document([element(.bool, "0", [1])]), "[true]", text: "[true]"),
        look(.document, document([]), "{}", text: "{}"),
        look(.array, document([]), "[]", text: "[]"),
    ]

    static let numbers: [BSONLook] = [
        number(0, "0.0"), number(-0.0, "-0.0"), number(1, "1.0"), number(-1, "-1.0"),
        number(129.95, "129.95"), number(-0.5, "-0.5"), number(52.520008, "52.520008"),
        number(0.1 + 0.2, "0.30000000000000004"), number(1e-4, "0.0001"), number(1e-7, "1e-07"),
        number(1e15, "1000000000000000.0"), number(9_007_199_254_740_991, "9007199254740991.0"),
        number(1e100, "1e+100"), number(.leastNonzeroMagnitude, "5e-324"),
        number(.greatestFiniteMagnitude, "1.7976931348623157e+308"),
        number(1.2345678921232e18, "1.2345678921232e+18"),
        number(1.000_122_070_312_5, "1.0001220703125"),
        odd(.nan, "NaN"), odd(-.nan, "NaN"), odd(.infinity, "Infinity"),
        odd(-.infinity, "-Infinity"),
    ]

    static let dates: [BSONLook] = [
        date(0, relaxed: "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
        date(1_356_351_330_501, relaxed: "2012-12-24T12:15:30.501Z", "2012-12-24T12:15:30.501Z"),
        date(1_356_351_330_001, relaxed: "2012-12-24T12:15:30.001Z", "2012-12-24T12:15:30.001Z"),
        date(253_402_300_799_999, relaxed: "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        date(253_402_300_800_000, relaxed: nil, "10000-01-01T00:00:00.000Z"),
        date(-1, relaxed: nil, "1969-12-31T23:59:59.999Z"),
        date(-62_135_596_800_000, relaxed: nil, "0001-01-01T00:00:00.000Z"),
        date(-62_135_596_800_001, relaxed: nil, "-62135596800001"),
        date(.max, relaxed: nil, "9223372036854775807"),
        date(.min, relaxed: nil, "-9223372036854775808"),
    ]

    static let binaries: [BSONLook] = [
        binary(0, [], "", plain: ""), binary(0, [0xFF], "/w==", plain: "/w=="),
        binary(0x80, [0xFF, 0xFF], "//8=", plain: "//8="),
        binary(2, [0xFF, 0xFF], "//8=", plain: "//8="),
        binary(3, uuid, "c//SZESzTGmQ6OfR38A11A==", plain: "c//SZESzTGmQ6OfR38A11A=="),
        binary(4, uuid, "c//SZESzTGmQ6OfR38A11A==", plain: "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"),
        binary(4, [1], "AQ==", plain: "AQ=="),
        binary(5, uuid, "c//SZESzTGmQ6OfR38A11A==", plain: "c//SZESzTGmQ6OfR38A11A=="),
    ]

    static let rare: [BSONLook] = [
        look(
            .regex, Array("a\"b/c\0xmi\0".utf8),
            #"{"$regularExpression":{"pattern":"a\"b/c","options":"imx"}}"#,
            plain: #""/a\"b/c/imx""#, text: "/a\"b/c/xmi"),
        // One that MongoDB does not know, one twice, one that needs an escape.
        look(
            .regex, Array("\0zaa\"\0".utf8),
            #"{"$regularExpression":{"pattern":"","options":"\"az"}}"#, plain: #""//\"az""#,
            text: "//zaa\""),
        look(
            .timestamp, littleEndianBytes(UInt64.max),
            #"{"$timestamp":{"t":4294967295,"i":4294967295}}"#,
            plain: #"{"t":4294967295,"i":4294967295}"#, text: "4294967295:4294967295"),
        look(
            .timestamp, littleEndianBytes(UInt64(123_456_789 << 32 | 42)),
            #"{"$timestamp":{"t":123456789,"i":42}}"#, plain: #"{"t":123456789,"i":42}"#,
            text: "123456789:42"),
        look(.undefined, [], #"{"$undefined":true}"#, plain: "null", text: nil),
        look(.minKey, [], #"{"$minKey":1}"#, plain: #""MinKey""#, text: "MinKey"),
        look(.maxKey, [], #"{"$maxKey":1}"#, plain: #""MaxKey""#, text: "MaxKey"),
        text(.code, "$code", "function() {}"), text(.symbol, "$symbol", "sym"),
        look(
            .dbPointer, stringValue("b") + id,
            #"{"$dbPointer":{"$ref":"b","$id":{"$oid":"655c1f7e9d3b2a0012345678"}}}"#,
            plain: #"{"ref":"b","id":"655c1f7e9d3b2a0012345678"}"#,
            text: #"{"$dbPointer":{"$ref":"b","$id":{"$oid":"655c1f7e9d3b2a0012345678"}}}"#),
        look(
            .codeWithScope,
            unhex("190000000500000061626364000C000000107800010000000000").dropLast(1),
            #"{"$code":"abcd","$scope":{"x":1}}"#,
            #"{"$code":"abcd","$scope":{"x":{"$numberInt":"1"}}}"#,
            plain: #"{"code":"abcd","scope":{"x":1}}"#,
            text: #"{"$code":"abcd","$scope":{"x":1}}"#),
    ]

    @Test(arguments: [common, numbers, dates, binaries, rare].flatMap { $0 })
    func everyTypeHasOneLookInEachMode(look: BSONLook) {
        for (mode, json) in [
            (.relaxed, look.relaxed), (.canonical, look.canonical), (.plain, look.plain),
        ] as [(DocumentMode, String)] {
            #expect(rendered(look.type, look.value, mode) == (json, .none))
            let whole = document([element(look.type, "v", look.value)])
            #expect(rendered(whole, mode) == ("{\"v\":\(json)}", .none))
        }
        #expect(plainText(look.type, look.value) == look.text)
    }

    @Test(arguments: [common, numbers, dates, binaries, rare].flatMap { $0 })
    func aValueOfAWrongLengthIsMalformed(look: BSONLook) {
        let hex = "\"\\\\x\(hexDigits(look.value + [0]))\""
        #expect(rendered(look.type, look.value + [0], .relaxed) == (hex, .malformed))
        if look.type != .null, look.type != .undefined {
            #expect(plainText(look.type, look.value + [0]) == "\\x\(hexDigits(look.value + [0]))")
        }
        if look.value.isEmpty { return }
        let short = Array(look.value.dropLast())
        #expect(rendered(look.type, short, .plain) == ("\"\\\\x\(hexDigits(short))\"", .malformed))
        #expect(plainText(look.type, short) == "\\x\(hexDigits(short))")
    }

    @Test func plainTextOfWhatHasPartsIsJSONInTheMode() {
        let value = document([element(.int64, "a", littleEndianBytes(Int64(1)))])
        #expect(plainText(.document, value, .canonical) == #"{"a":{"$numberLong":"1"}}"#)
        #expect(plainText(.document, value, .plain) == #"{"a":"1"}"#)
    }
}
