# A boot sector that drives the lsi53c895a itself, in 16-bit real mode. It finds
# the chip and its I/O BAR through the PCI BIOS. Assembled twice:
#
# BENCH=0   takes interrupts: starts a one-instruction SCRIPTS program (INT) four
#           times, each when the one before has been taken and acknowledged, and
#           counts how often its handler is called with DIP set. The line is a
#           level: two causes at a time would be one interrupt.
#             BOOT intx=HH      04; 00 where interrupts do not arrive
#           then ends the VM through ACPI.
#
#           How long it waits is measured by ACPI's timer. The clock of the BIOS
#           will not do: while the firmware runs with interrupts off, ticks pile
#           up in KVM's timer, and are made up for at the first sti, tick upon
#           tick. They have priority over the device, so seconds of that clock
#           can pass before it has its turn.
#
# BENCH=1   is timed from outside, by the moments of its lines:
#             BENCH start
#             BENCH reads       4096 byte reads of SCRATCHA later
#             BENCH writes      4096 byte writes of it later
#             BENCH disk        64 reads of 32 KiB (INT 13h) later
#           again and again.
#
# A BIOS call that fails prints BOOT fail=HH and halts.
#
# SPEC  LSI53C895A technical manual: ISTAT 14h, DSTAT 0Ch, DIEN 39h, DSP 2Ch,
#       SCRATCHA 34h; SCRIPTS INT 98080000h. ACPI 6.5 §4.8.2.1: power management
#       timer, 3.579545 MHz, 24 bits.

.code16
.globl _start

.set SCRIPT, 0x9000
.set BUFFER, 0x1000        # segment: 64 KiB at 0x10000
.set ROUNDS, 4
.set PM_TIMER, 0x608       # where SeaBIOS puts it
.set PATIENCE, 14318180    # 4 s

_start:
        cli
        xorw %ax, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movw $0x7c00, %sp
        ljmp $0, $1f
1:      sti
        cld
        movb %dl, drive
        call let_firmware_finish

        movw $0xb102, %ax       # find 1000:0012
        movw $0x0012, %cx
        movw $0x1000, %dx
        xorw %si, %si
        int $0x1a
        jc fail
        movw $0xb10a, %ax       # BAR 0
        movw $0x10, %di
        int $0x1a
        jc fail
        andb $0xfc, %cl
        movw %cx, port

.if BENCH
again:  movw $say_start, %si
        call print
        movw port, %dx
        addw $0x34, %dx
        movw $4096, %cx
2:      inb %dx, %al
        loop 2b
        movw $say_reads, %si
        call print
        movw port, %dx
        addw $0x34, %dx
        movw $4096, %cx
3:      outb %al, %dx
        loop 3b
        movw $say_writes, %si
        call print
        movw $64, %bp
4:      movb $0x42, %ah
        movb drive, %dl
        movw $packet, %si
        int $0x13
        jc fail
        decw %bp
        jnz 4b
        movw $say_disk, %si
        call print
        jmp again
.else
        movw $0xb108, %ax       # interrupt line
        movw $0x3c, %di
        int $0x1a
        jc fail
        movb %cl, line
        # Vector 8 + n, or 70h + n - 8 of the second controller.
        movzbw %cl, %bx
        addw $8, %bx
        cmpb $8, %cl
        jb 2f
        addw $0x60, %bx
2:      shlw $2, %bx
        cli
        movw $handler, (%bx)
        movw $0, 2(%bx)
        movw $0xfffe, %dx
        rolw %cl, %dx
        inb $0x21, %al
        andb %dl, %al
        andb $0xfb, %al         # the cascade
        outb %al, $0x21
        inb $0xa1, %al
        andb %dh, %al
        outb %al, $0xa1
        sti

        movl $0x98080000, SCRIPT
        movl $0, SCRIPT + 4
        movw port, %dx
        addw $0x39, %dx         # DIEN: SIR
        movb $0x04, %al
        outb %al, %dx
        movw $ROUNDS, %bp
3:      movb count, %bl
        movw port, %dx
        addw $0x2c, %dx         # DSP: go
        movl $SCRIPT, %eax
        outl %eax, %dx
        movw $PM_TIMER, %dx
        inl %dx, %eax
        movl %eax, %ecx
4:      cmpb %bl, count
        jne 5f
        inl %dx, %eax
        subl %ecx, %eax
        andl $0xffffff, %eax
        cmpl $PATIENCE, %eax
        jb 4b
        jmp 6f                  # none comes
5:      decw %bp
        jnz 3b

6:      movw $say_intx, %si
        call print
        movb count, %al
        call print_hex
        movw $say_end, %si
        call print
        movw $0x604, %dx        # PM1a control: SLP_EN, SLP_TYP 0
        movw $0x2000, %ax
        outw %ax, %dx
        jmp halt

handler:
        pushw %ax
        pushw %dx
        movw %cs:port, %dx
        addw $0x14, %dx         # ISTAT: DIP?
        inb %dx, %al
        testb $2, %al           # SIP: the firmware's leftovers
        jz 9f
        pushw %ax
        addw $0x2e, %dx         # SIST0, SIST1: reading acknowledges
        inw %dx, %ax
        subw $0x2e, %dx
        popw %ax
9:      testb $1, %al
        jz 7f
        subw $8, %dx            # DSTAT: the same
        inb %dx, %al
        incb %cs:count
7:      movb $0x20, %al
        cmpb $8, %cs:line
        jb 8f
        outb %al, $0xa0
8:      outb %al, $0x20
        popw %dx
        popw %ax
        iret
.endif

halt:   hlt
        jmp halt

.include "serial.inc"

.if BENCH
say_start:  .asciz "\r\nBENCH start\r\n"
say_reads:  .asciz "BENCH reads\r\n"
say_writes: .asciz "BENCH writes\r\n"
say_disk:   .asciz "BENCH disk\r\n"
        .balign 4
packet: .byte 16, 0
        .word 64
        .word 0, BUFFER
        .quad 0
.else
say_intx: .asciz "\r\nBOOT intx="
line:   .byte 0
count:  .byte 0
.endif
say_fail: .asciz "\r\nBOOT fail="
say_end:  .asciz "\r\n"
port:   .word 0
drive:  .byte 0

.org 510
        .word 0xaa55
