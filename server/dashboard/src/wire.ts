// Reads protobuf's wire format, as far as gradtap's answers need it.
//
// One pass, no copy of what is not asked for; packed doubles land in typed arrays.
// A message that ends too early throws a RangeError.

export class Reader {
  private at: number;
  private readonly view: DataView;

  constructor(readonly bytes: Uint8Array, begin = 0, private readonly end = bytes.length) {
    this.at = begin;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  // Calls `on` for each field; what it does not read is passed over.
  fields(on: (field: number, reader: Reader) => boolean | void): void {
    while (this.at < this.end) {
      const tag = this.varint();
      this.wire = tag & 7;
      if (on(tag >>> 3, this) !== true) this.skip();
    }
  }

  private wire = 0;

  // Up to 2^53; more loses low bits.
  varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 10; ++i) {
      if (this.at >= this.end) throw new RangeError('the message ends too early');
      const byte = this.bytes[this.at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    throw new RangeError('a number is too long');
  }

  // Negative numbers take ten bytes.
  int64(): number {
    const begin = this.at;
    const value = this.varint();
    if (value < 2 ** 63) return value;
    let exact = 0n;
    for (let i = begin; i < this.at; ++i) {
      exact |= BigInt(this.bytes[i]! & 0x7f) << BigInt(7 * (i - begin));
    }
    return Number(BigInt.asIntN(64, exact));
  }

  sfixed64(): number {
    const at = this.take(8);
    return Number(this.view.getBigInt64(at, true));
  }

  // Where a length-delimited field lies.
  range(): [number, number] {
    const length = this.varint();
    const begin = this.take(length);
    return [begin, begin + length];
  }

  message(): Reader {
    const [begin, end] = this.range();
    return new Reader(this.bytes, begin, end);
  }

  text(): string {
    const [begin, end] = this.range();
    return utf8.decode(this.bytes.subarray(begin, end));
  }

  blob(): Uint8Array {
    const [begin, end] = this.range();
    return this.bytes.subarray(begin, end);
  }

  // Packed.
  doubles(): Float64Array {
    const [begin, end] = this.range();
    const from = this.bytes.byteOffset + begin;
    return new Float64Array(this.bytes.buffer.slice(from, from + ((end - begin) & ~7)));
  }

  varints(): number[] {
    const inner = this.message();
    const values: number[] = [];
    while (inner.at < inner.end) values.push(inner.int64());
    return values;
  }

  sfixed64s(): number[] {
    const inner = this.message();
    const values: number[] = [];
    while (inner.at < inner.end) values.push(inner.sfixed64());
    return values;
  }

  double(): number {
    return this.view.getFloat64(this.take(8), true);
  }

  private take(length: number): number {
    const at = this.at;
    if (at + length > this.end) throw new RangeError('the message ends too early');
    this.at += length;
    return at;
  }

  private skip(): void {
    switch (this.wire) {
      case 0: this.varint(); break;
      case 1: this.take(8); break;
      case 2: this.range(); break;
      case 5: this.take(4); break;
      default: throw new RangeError('the message has a field of an unknown kind');
    }
  }
}

const utf8 = new TextDecoder();
