// Why steps are not there, in words (GapCause of proto/gradtap/v1/record.proto).

const kCauses: Record<number, string> = {
  1: 'skipped by the interval', 2: 'skipped by the overhead budget', 3: 'skipped by the loop',
  4: 'the optimizer threw', 5: 'left out by the audit', 16: 'lost, the ring was full',
  17: 'lost, the spool was full', 18: 'lost, given up for later steps', 19: 'lost to an I/O error',
  20: 'lost, the wire cannot carry it', 21: 'lost, LibTorch threw', 22: 'lost to a fork',
  23: 'lost, refused by the collector', 24: 'lost at the shutdown', 25: 'lost, the process died',
  26: 'lost, the run was deleted', 64: 'rolled up to make room',
};

export const causeName = (cause: number): string => kCauses[cause] ?? `cause ${cause}`;
