package import WeirCore
package import WeirJSON

/// Encodes one row image at a time, for sinks that store rows and not lines.
package struct RowEncoder: ~Copyable {
    private var rows = RowWriter()

    package init() {}

    /// Appends `{"name":value,…}` with the projection's fields; a value the source did not send is
    /// left out.
    package mutating func append(
        _ image: Slice, of projection: borrowing Projection, in batch: BatchView,
        into writer: inout JSONWriter
    ) {
        rows.begin(projection)
        rows.appendObject(
            projection.fields, of: image, in: batch, names: projection.names, into: &writer)
    }
}

extension Projection {
    /// The output name of a field as it is, for places that are no JSON.
    package func plainName(of field: Field) -> [UInt8] {
        Array(outputNames[field.slot].utf8)
    }
}
